"""`asr adapt`: a model moved a little towards one person, who is recognised better, and everybody
else no worse, or it is not written."""

import logging
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asr.card import ModelCard
from asr.evaluation.intervals import rate_interval
from asr.evaluation.report import percent
from asr.model import Model, model_path
from asr.studies.own_words.person import MEASURED, OTHERS, People, gather_people
from asr.training.adaptation import count_errors, fine_tune, without
from asr.training.checkpoint import BEST, Progress, save_checkpoint
from asr.training.config import Config, DataConfig, OptimisationConfig
from asr.training.data.corpus import Corpus, load_corpus
from asr.training.data.labels import BLANK, SILENCE, UNKNOWN
from asr.training.network.acoustic import AcousticModel
from asr.training.pretrained import PretrainedError, read_pretrained
from export.export import export_run, rewrite_card
from features.augment import AugmentConfig
from features.errors import EarshotError
from features.paths import shown

logger = logging.getLogger(__name__)

MOST_LOST = 0.005  # share of errors that may be added to what others say
USABLE = 0.5  # share of errors above which others' recordings say nothing about forgetting
UNIT = {"ctc": "characters", "classify": "words"}
RATE = {"ctc": 2e-4, "classify": 2e-3}
BATCH_SECONDS = {"ctc": 24.0, "classify": 12.0}  # sentences; words
EPOCH_SECONDS = 240.0
AUGMENT = AugmentConfig(noise_snr=(10.0, 40.0), telephone=0.0, time_masks=1, time_mask_frames=8)


class AdaptError(EarshotError, RuntimeError):
    """An adaptation that would do no good, or harm."""


@dataclass(frozen=True)
class Compared:
    """Errors before and after on the same recordings: int (recordings, 2), see `count_errors`.

    unit: what they count.
    """

    before: np.ndarray
    after: np.ndarray
    unit: str

    @property
    def gain(self) -> float:
        """Share that is right now and was wrong, less the reverse."""
        whole = max(1, int(self.before[:, 1].sum()))
        return float((self.before[:, 0] - self.after[:, 0]).sum() / whole)

    def __str__(self) -> str:
        return f"{_wrong(self.before)} % of {self.unit} wrong before, {_wrong(self.after)} % after"


def _wrong(counts: np.ndarray) -> str:
    """The share that is wrong with its interval over recordings."""
    errors, whole = counts.T
    share = float(errors.sum() / max(1, whole.sum()))
    return percent(share, rate_interval(errors, whole, [str(k) for k in range(len(counts))]))


def adapt(model: str, data: Path, out: Path, old: Path | None = None) -> dict[str, Compared]:
    """Adapt a model to the recordings of a person and write it to `out`; print and return the
    errors before and after, of the "person" and of "others".

    data, old: see `gather_people`. Of the person each recording is measured by a network that was
    adapted without it. Raises EarshotError; AdaptError, and nothing is written, if the person is
    not recognised better, or others worse by more than MOST_LOST.
    """
    began = time.monotonic()
    path = model_path(model)
    start, card = read_pretrained(path)
    if not isinstance(card, ModelCard) or not isinstance(start, AcousticModel):
        raise PretrainedError(f"{path}: is a language model, which knows no voices; name another")
    _warn_of_other_words(card, path)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        people = gather_people(card, data, old, folder)
        config = _config(card, start, people, folder)
        corpus = load_corpus(config)
        if corpus.labels.names != card.labels:
            raise PretrainedError(
                f"{path}: its labels are not in the order that a training gives them; name a file "
                "that 'asr export' wrote"
            )
        before = count_errors(start, config, corpus, corpus.validation)
        _check_others(before, old)
        compared = {"person": _person(start, config, corpus, people)}
        print(f"the person: {compared['person']} ({people.own} recordings, in parts held out)")
        adapted = fine_tune(start, config, corpus)
        after = count_errors(adapted, config, corpus, corpus.validation)
        compared["others"] = Compared(before, after, UNIT[card.task])
        print(f"others: {compared['others']} ({len(before)} recordings)")
        _refuse(compared, out)
        _write(card, adapted, config, corpus, compared, out)
    print(f"wrote {shown(out)} after {time.monotonic() - began:.0f} s")
    if (language_model := Model(path).language_model) is not None:
        print(f"its language model is that of {model}: --lm {shown(language_model)}")
    return compared


def _config(card: ModelCard, start: AcousticModel, people: People, folder: Path) -> Config:
    """The training that an adaptation is."""
    labels = tuple(name for name in card.labels if name not in (*card.background, BLANK))
    return Config(
        name="adapted",
        out=str(folder / "runs"),
        model=replace(start.config, head=replace(start.config.head, labels=labels)),
        data=DataConfig(
            sources=people.sources,
            cache=str(folder / "cache"),
            unknown=0.2 if UNKNOWN in card.labels else 0.0,
            silence=0.1 if SILENCE in card.labels else 0.0,
            epoch_seconds=EPOCH_SECONDS,
            warm_epochs=0,
        ),
        augment=AUGMENT,
        optimisation=OptimisationConfig(
            learning_rate=RATE[card.task],
            batch_seconds=BATCH_SECONDS[card.task],
            precision="fp32",
            workers=0,
        ),
        **({"trigger": card.trigger} if card.trigger else {}),
    )


def _warn_of_other_words(card: ModelCard, path: Path) -> None:
    """Warn of a classifier that every word is one of its own to."""
    if card.task == "classify" and UNKNOWN not in card.labels:
        logger.warning(
            "%s: has no label for other words, so it reports its own in any speech, which adapting "
            "neither mends nor measures; 'asr train FOLDER' makes a model that has one",
            path,
        )


def _check_others(counts: np.ndarray, old: Path | None) -> None:
    """Raise AdaptError if others' recordings, of which `count_errors` gives the counts, cannot show
    what is forgotten: they were never recognised."""
    errors, whole = counts.sum(axis=0).tolist()
    if errors > USABLE * whole:
        whose = shown(old) if old else "the sound that comes with the package"
        raise AdaptError(
            f"{errors / whole:.0%} of {whose} is recognised wrongly already, which "
            "cannot show what is forgotten; give --old recordings that this model was made for"
        )


def _person(start: AcousticModel, config: Config, corpus: Corpus, people: People) -> Compared:
    """Errors in a person's recordings, each part of them by a network adapted to the others."""
    before, after = [], []
    for part in people.folds:
        held_out = [
            example
            for example in corpus.train
            if example.recording.speaker == part and _source(config, example) == "person"
        ]
        adapted = fine_tune(start, config, without(corpus, {part}))
        before.append(count_errors(start, config, corpus, held_out))
        after.append(count_errors(adapted, config, corpus, held_out))
    unit = UNIT["classify" if config.classifies else "ctc"]
    return Compared(np.concatenate(before), np.concatenate(after), unit)


def _source(config: Config, example: Any) -> str:
    return config.data.sources[example.recording.source].name


def _refuse(compared: dict[str, Compared], out: Path) -> None:
    """Raise AdaptError unless the person gains, and others lose no more than MOST_LOST."""
    if compared["person"].gain <= 0.0:
        raise AdaptError(
            f"{shown(out)} is not written: the person would not be recognised better; record more "
            "of what goes wrong ('asr record')"
        )
    if compared["others"].gain < -MOST_LOST:
        raise AdaptError(
            f"{shown(out)} is not written: {-compared['others'].gain:.1%} more of what others say "
            "would be wrong; record other words too, or give more --old recordings"
        )


def _write(
    card: ModelCard,
    adapted: AcousticModel,
    config: Config,
    corpus: Corpus,
    compared: dict[str, Compared],
    out: Path,
) -> None:
    """Export the network, with what the card of the model says beside its weights and figures."""
    config.run.mkdir(parents=True)
    save_checkpoint(config.run / BEST, config, corpus.labels.names, adapted, Progress(), {})
    exported = export_run(config.run, config.run / "adapted.onnx")
    own = [s.credit for s in config.data.sources if s.name not in (OTHERS, MEASURED)]
    trigger = card.trigger
    if card.alarms is not None:
        highest = max(card.alarms.thresholds.values())
        if trigger is not None:
            trigger = replace(trigger, threshold=highest)
        logger.warning(
            "the thresholds of %s were measured with other weights; %s has the highest of them for "
            "all, until 'asr calibrate' finds its own",
            card.name,
            shown(out),
        )
    new = replace(
        exported.card,
        name=card.name,
        licence=card.licence,
        training_data=(*card.training_data, *own),
        trigger=trigger,
        endpoint=card.endpoint,
        spotting=card.spotting,
        calibration=card.calibration,
        metrics={
            f"errors_{who}_{when}": round(float(counts[:, 0].sum() / counts[:, 1].sum()), 4)
            for who, pair in compared.items()
            for when, counts in (("before", pair.before), ("after", pair.after))
        },
    )
    rewrite_card(exported.path, new, out)
