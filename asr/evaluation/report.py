"""Figures of evaluations as tables in a terminal."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

LARGEST_MATRIX = 12  # labels; of more, a terminal shows the pairs that are confused most
LEAST_HOURS = 0.1  # of other sound, for a rate an hour
ROWS = 10  # of a table whose worst rows come first

Interval = tuple[float, float]


def stretch(hours: float) -> str:
    """A length of sound as sentences say it."""
    return f"{hours:.2f} hours" if hours >= LEAST_HOURS else f"{3600 * hours:.0f} s"


def percent(share: float | None, interval: Interval | None) -> str:
    """A share and its interval as tables show them, in percent; a dash if there is none."""
    if share is None or interval is None:
        return "-"
    low, high = interval
    return f"{100 * share:.2f} ({100 * low:.1f} to {100 * high:.1f})"


def print_evaluation(figures: dict[str, Any]) -> None:
    """Print the figures of `asr.evaluation.figures.summarise`."""
    console = Console(highlight=False, soft_wrap=True)
    names = ["accuracy"] if figures["cer"] is None else ["accuracy", "cer", "wer"]
    heads = [f"{name} % (95 % interval)" for name in names]
    groups = figures["groups"] if len(figures["groups"]) > 1 else {}
    table = Table("", "recordings", *heads)
    for title, row in {**groups, "all": figures}.items():
        table.add_row(title, str(row["n"]), *_rates(row, names))
    console.print(table)
    console.print(_about_intervals(figures))
    if rows := figures["speakers"]:
        title = _title("by speaker", len(rows))
        shares = [f"{name} %" for name in names]
        table = Table("speaker", "recordings", *shares, title=title, title_justify="left")
        for row in rows[:ROWS]:
            cells = ("-" if row[name] is None else f"{100 * row[name]:.2f}" for name in names)
            table.add_row(row["speaker"], str(row["n"]), *cells)
        console.print(table)
    for part in _classifier(figures) if figures["cer"] is None else word_lines(figures["words"]):
        console.print(part)
    console.print(f"real-time factor: {figures['real_time_factor']:.4f} (one thread)")


def _rates(row: dict[str, Any], names: list[str]) -> Iterator[str]:
    return (percent(row[name], row[f"{name}_interval"]) for name in names)


def _title(name: str, rows: int) -> str:
    return f"{name}, worst first" + (f": {ROWS} of {rows}" if rows > ROWS else "")


def _about_intervals(figures: dict[str, Any]) -> str:
    """What was drawn at random for the intervals, in words."""
    if figures["interval_over"] == "speakers":
        return f"intervals: what to expect of other speakers, from the {figures['n_speakers']} here"
    if figures["n_speakers"] == 1:
        return "intervals: what to expect of other recordings of this one speaker"
    return "intervals: each recording counts as another speaker's; --speaker names the speakers"


def _classifier(figures: dict[str, Any]) -> Iterator[Table | str]:
    if len(figures["labels"]) <= LARGEST_MATRIX:
        yield _confusion_table(figures)
    else:
        yield _recall_table(figures)
        yield _pair_table(figures)
    yield f"mean over the labels: {100 * figures['macro_accuracy']:.2f} %"
    if figures["hit_rate"] is not None:
        yield f"keywords that fire: {100 * figures['hit_rate']:.2f} %"
    if figures["background_hours"]:
        yield _false_accepts(figures)
    yield _threshold_table(figures["thresholds"], figures["background_hours"] >= LEAST_HOURS)


def _false_accepts(figures: dict[str, Any]) -> str:
    count, hours = figures["false_accepts"], figures["background_hours"]
    if hours < LEAST_HOURS:
        return (
            f"false accepts: {count} in {stretch(hours)} of other sound: too little to tell "
            "how many an hour"
        )
    rate = figures["false_accepts_per_hour"]
    return f"false accepts: {count} in {stretch(hours)} of other sound, {rate:.1f} an hour"


def _threshold_table(points: list[dict[str, Any]], enough: bool) -> Table:
    """enough: whether the sound is so long that rates an hour mean something."""
    table = Table("threshold", "keywords that fire %", "false accepts an hour")
    for point in points:
        hits, false = point["hit_rate"], point["false_accepts_per_hour"]
        table.add_row(
            f"{point['threshold']:g}",
            "-" if hits is None else f"{100 * hits:.1f}",
            f"{false:.1f}" if enough and false is not None else "-",
        )
    return table


def _confusion_table(figures: dict[str, Any]) -> Table:
    labels = figures["labels"]
    short = [name.strip("_")[:5] for name in labels]
    table = Table(
        "said / recognised",
        *short,
        "right %",
        padding=(0, 0),
        title="confusion",
        title_justify="left",
    )
    for name, row in zip(labels, figures["confusion"], strict=True):
        if name in figures["recall"]:
            cells = ["" if not count else str(count) for count in row]
            table.add_row(name, *cells, f"{100 * figures['recall'][name]:.1f}")
    return table


def _recall_table(figures: dict[str, Any]) -> Table:
    """The labels with the lowest share of right recordings."""
    totals = dict(zip(figures["labels"], np.sum(figures["confusion"], axis=1), strict=True))
    recalls = sorted(figures["recall"].items(), key=lambda entry: entry[1])
    table = Table(
        "label", "recordings", "right %", title=_title("labels", len(recalls)), title_justify="left"
    )
    for name, recall in recalls[:ROWS]:
        table.add_row(name, str(totals[name]), f"{100 * recall:.1f}")
    return table


def _pair_table(figures: dict[str, Any]) -> Table:
    """The pairs of labels of which one is taken for the other most often."""
    labels, counts = figures["labels"], np.array(figures["confusion"])
    totals = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    pairs = np.argwhere(counts)
    order = np.argsort(-counts[counts > 0], kind="stable")
    table = Table(
        "said",
        "recognised",
        "times",
        "of",
        title=_title("confused", len(pairs)),
        title_justify="left",
    )
    for row, column in pairs[order][:ROWS]:
        table.add_row(labels[row], labels[column], str(counts[row, column]), str(totals[row]))
    return table


def word_lines(figures: dict[str, Any]) -> list[str]:
    """Word figures as lines to print."""
    lines: list[str] = []
    if figures["nce"] is not None:
        lines.append(
            f"confidence of {figures['n']} words, {100 * figures['right']:.1f} % right: "
            f"ECE {100 * figures['ece']:.1f} %, Brier {figures['brier']:.3f}, "
            f"AUC {figures['auc']:.3f}, NCE {figures['nce']:.3f}"
        )
    if figures["marked"]:
        starts, ends = (
            "{1:+.0f} ms ({0:+.0f} to {2:+.0f})".format(*(1000 * time for time in figures[name]))
            for name in ("starts", "ends")
        )
        lines.append(
            f"{figures['marked']} marked words, median and middle half: begin {starts}, end {ends}"
        )
    return lines


def print_keywords(figures: dict[str, Any]) -> None:
    """Print the figures of `asr.evaluation.keywords.evaluate_keywords`."""
    console = Console(highlight=False, soft_wrap=True)
    hours = figures["hours"]
    table = Table("false alarms per hour", "threshold", "missed % (95 % interval)")
    for point in figures["rates"]:
        table.add_row(f"{point['at_most']:g}", f"{point['threshold']:.3f}", _missed(point))
    console.print(table)
    names = ("keyword", "threshold", "said", "missed %", "false alarms", "delay s", "90 % s")
    table = Table(*names, padding=(0, 0))
    for name, row in {**figures["keywords"], "all": figures["all"]}.items():
        alarms = f"{row['false_alarms']} ({row['false_alarms_per_hour']:.1f}/h)"
        delays = [_or_dash(row[delay]) for delay in ("delay_median", "delay_90")]
        threshold = _or_dash(row.get("threshold"))
        table.add_row(name, threshold, str(row["said"]), _missed(row), alarms, *delays)
    console.print(table)
    console.print(f"{figures['recordings']} recordings, {stretch(hours)}; delay from word end")
    console.print(_about_intervals(figures))
    if rows := figures["speakers"]:
        table = Table(
            "speaker",
            "said",
            "missed",
            title=_title("missed by speaker", len(rows)),
            title_justify="left",
        )
        for row in rows[:ROWS]:
            table.add_row(row["speaker"], str(row["said"]), str(row["missed"]))
        console.print(table)
    lowest = figures["rates"][0]["at_most"]
    if hours * lowest < 1.0:
        console.print(
            f"{stretch(hours)} are too few to measure {lowest} false alarms per hour: there it "
            "is none at all"
        )


def _missed(row: dict[str, Any]) -> str:
    return percent(row["miss_rate"], row["miss_interval"])


def _or_dash(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}"
