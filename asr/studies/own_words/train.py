"""`asr train FOLDER`: a model of the words in a folder, without a configuration."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from asr.files import whole_file
from asr.studies.own_words.build import AUTO, STARTS, Order, build, configure
from asr.studies.own_words.materials import gather
from asr.studies.own_words.recipe import as_toml
from asr.studies.own_words.reviewed import reviewed_takes
from asr.studies.own_words.survey import Survey, survey
from asr.studies.own_words.verdict import verdict
from features.paths import shown


def train_folder(
    folder: Path,
    order: Order,
    *,
    speaker: str = "",
    negatives: Sequence[Path] = (),
    more: Sequence[Path] = (),
    config: Path | None = None,
    resume: bool = False,
) -> None:
    """Train by a folder of words and print what came of it, or write the configuration to `config`.

    speaker: see `survey`; negatives: files and folders of sound that holds none of the words; more:
    folders of kept recordings that were reviewed.
    Raises EarshotError.
    """
    found = survey(folder, speaker)
    for line in describe(found):
        print(line, flush=True)
    reviewed = reviewed_takes(more, found, order.folder / "materials" / "reviewed")
    materials = gather(found, order.folder / "materials", negatives, reviewed=reviewed)
    if config is not None:
        start = STARTS[0] if order.start == AUTO else order.start
        settings = replace(
            configure(order, found.takes, materials, start, ""), out=str(order.folder.parent)
        )
        with whole_file(config) as part:
            part.write_text(as_toml(settings), encoding="utf-8")
        print(f"wrote {shown(config)}; train by it with: asr train {shown(config)}")
        return
    result = build(order, found.takes, materials, resume)
    for line in verdict(order, found, result):
        print(line, flush=True)


def describe(found: Survey) -> list[str]:
    """What a survey found, in lines."""
    counts = found.counts
    held_out = [take.speaker for take in found.takes if take.held_out]
    minutes = sum(take.seconds for take in found.takes) / 60
    few, many = min(counts.values()), max(counts.values())
    each = f"{few}" if few == many else f"{few} to {many}"
    of_whom = f", all those of {len(set(held_out))} speakers" if found.by_speaker else ""
    return [
        f"{len(counts)} words with {each} recordings each, {minutes:.1f} minutes in all: "
        + ", ".join(counts),
        *found.notes,
        f"{len(held_out)} recordings are held out to measure by{of_whom}",
    ]
