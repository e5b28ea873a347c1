"""Hard negatives: what a model takes for its words in sound that holds none of them."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from asr.evaluation.alarms import cut_out
from asr.evaluation.report import stretch
from asr.evaluation.streams import Watcher
from asr.studies.own_words.materials import SAMPLE_RATE, write_flac
from asr.studies.own_words.survey import Take
from features.audio import AudioError, stream_audio
from features.paths import shown

logger = logging.getLogger(__name__)

NEAR = 0.3  # a score from which something is worth learning that it is none of the words
SUSPECT = 0.97  # from which it may well be one of them
SAME_SECONDS = 1.0  # in which a score that rises has reached its peak
MOST = 2000
LISTED = 10  # suspects that are named one by one


def mine(watcher: Watcher, negatives: Sequence[Path], folder: Path, until: float) -> list[Take]:
    """Cut out of negatives what scores like a word, and write it into a folder.

    What scores so high that it may be one of the words after all is not taken but named, to be
    listened to. Files that are not reached before `until` (`time.monotonic`) are left out, and it
    says how many hours were searched.
    """
    takes: list[Take] = []
    suspects: list[str] = []
    seconds = 0.0
    near, suspect = (
        {keyword.text: score for keyword in watcher.keywords} for score in (NEAR, SUSPECT)
    )
    for number, path in enumerate(negatives):
        if time.monotonic() >= until or len(takes) >= MOST:
            break
        try:
            track = watcher.watch(stream_audio(path, SAMPLE_RATE))
            firings, certain = track.firings(near), track.firings(suspect)
            cuts = cut_out(path, [firing.time for firing in firings], SAMPLE_RATE)
        except AudioError as error:
            logger.warning("%s: left out", error)
            continue
        seconds += track.seconds
        for k, (firing, samples) in enumerate(zip(firings, cuts, strict=True)):
            if any(0.0 <= other.time - firing.time <= SAME_SECONDS for other in certain):
                suspects.append(f"{shown(path)} at {firing.time:.1f} s ({firing.keyword})")
                continue
            out = folder / "hard" / f"{number:04d}-{k:04d}.flac"
            write_flac(out, samples)
            takes.append(Take(out, "", shown(path), len(samples) / SAMPLE_RATE))
    print(f"{len(takes)} hard negatives in {stretch(seconds / 3600)}", flush=True)
    if suspects:
        named = "; ".join(suspects[:LISTED])
        logger.warning(
            "%d moments of the negatives sound like the words and are not learned from; listen to "
            "them, and take out files that hold a word: %s",
            len(suspects),
            named,
        )
    return takes
