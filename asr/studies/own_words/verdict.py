"""What a training of own words came to, in a few lines: figures, mistakes, and what is missing."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from asr.evaluation.report import percent, stretch
from asr.studies.own_words.build import SPARE, Order, Result
from asr.studies.own_words.survey import NOBODY_KNOWN, Survey
from features.paths import shown

WORST_PAIRS = 3
FEW_SPEAKERS, FEW_RECORDINGS = 10, 20
GOOD_SHARE = 0.97  # of held-out recordings that are right
OF_PEOPLE = (
    "recordings of people: these figures are of synthetic voices, and people are recognised worse; "
    "record ten takes of each phrase with 'asr record' and give them with --recordings"
)


def verdict(
    order: Order, found: Survey, result: Result, *, synthetic: bool = False
) -> Iterator[str]:
    """The lines that a training ends with; synthetic: whether no recording is of a person."""
    own = result.accuracy
    of_whom = "recordings not trained on"
    if found.by_speaker:
        of_whom = f"{'synthetic voices' if synthetic else 'people'} not trained on"
    yield (
        f"right: {percent(own['accuracy'], own['accuracy_interval'])} % of {own['n']} held-out "
        f"recordings, of {of_whom}"
    )
    yield from _pairs(result)
    row = result.streams["all"]
    yield (
        f"in a stream: {percent(row['miss_rate'], row['miss_interval'])} % of {row['said']} missed "
        f"with the thresholds of {shown(order.out)}"
    )
    alarms = result.alarms
    yield (
        f"false alarms: {alarms.count} in {stretch(alarms.hours)}, which proves at most "
        f"{alarms.at_most:.1f} an hour (the budget is {alarms.budget:g})"
    )
    if row["false_alarms"] > alarms.budget * alarms.hours:
        yield (
            f"the budget is not kept: thresholds that keep it would miss more than {SPARE:.0%} of "
            "what is recognised now; 'asr calibrate' with hours of --negative sets them by it alone"
        )
    yield f"missing most: {OF_PEOPLE if synthetic else missing(found, result)}"
    yield f"wrote {shown(order.out)}; try it: asr listen --model {shown(order.out)}"


def _pairs(result: Result) -> Iterator[str]:
    """The words that are taken for others most often."""
    labels, counts = result.accuracy["labels"], np.array(result.accuracy["confusion"])
    totals = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    pairs = np.argwhere(counts)
    order = np.argsort(-counts[counts > 0], kind="stable")[:WORST_PAIRS]
    if len(order):
        named = (
            f"{labels[said]} as {labels[taken]} ({counts[said, taken]} of {totals[said]})"
            for said, taken in pairs[order]
        )
        yield f"confused most: {', '.join(named)}"


def missing(found: Survey, result: Result) -> str:
    """What would help most, in words."""
    own = result.accuracy
    fewest = min(found.counts, key=lambda word: found.counts[word])
    weak = own["accuracy"] < GOOD_SHARE
    if found.takes[0].speaker == NOBODY_KNOWN:
        return "who speaks: file names do not say; --speaker, or a folder for each person, does"
    if found.speakers < 2:
        return "speakers: all recordings are of one voice, as far as the names say"
    if weak and found.speakers < FEW_SPEAKERS:
        return f"speakers: {found.speakers} are few; have {FEW_SPEAKERS} or more people record"
    if weak and found.counts[fewest] < FEW_RECORDINGS:
        return (
            f"recordings: '{fewest}' has {found.counts[fewest]}; 'asr record {fewest}' makes more"
        )
    if result.alarms.at_most > result.alarms.budget:
        return (
            "sound without the words: hours of ordinary talk, radio and household, with --negative "
            "FOLDER, to learn from and to prove the budget by"
        )
    if weak:
        worst = _worst(result)
        return f"recordings of '{worst}', which is right least often" if worst else "recordings"
    return "nothing by these figures; try it where it will be used"


def _worst(result: Result) -> str:
    recall = Counter(result.accuracy["recall"])
    words = [label for label in recall if not label.startswith("_")]
    return min(words, key=recall.__getitem__, default="")
