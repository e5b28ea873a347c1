"""What /metrics shows, in the text format of Prometheus."""

import bisect
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)  # seconds

HELP = {
    "earshot_streams": ("gauge", "Streams that are open."),
    "earshot_streams_total": ("counter", "Streams that were opened."),
    "earshot_refused_total": ("counter", "Requests that were refused, by the status that says so."),
    "earshot_audio_seconds_total": ("counter", "Audio that was taken in."),
    "earshot_events_total": ("counter", "Utterances and detections."),
    "earshot_draining": ("gauge", "Above 0 when no new streams are taken because the server ends."),
}
LATENCY = "earshot_step_seconds"

Labels = tuple[tuple[str, str], ...]


@dataclass
class Counts:
    """What was counted: values by name and labels; for each model, latencies by bucket and their
    sum in seconds."""

    values: Counter[tuple[str, Labels]] = field(default_factory=Counter)
    buckets: dict[str, list[int]] = field(default_factory=dict)
    sums: Counter[str] = field(default_factory=Counter)

    def without_gauges(self) -> "Counts":
        """What remains of a process that ended: no stream of it is open."""
        kept = {key: value for key, value in self.values.items() if HELP[key[0]][0] == "counter"}
        return Counts(Counter(kept), self.buckets, self.sums)


def added(*all_counts: Counts) -> Counts:
    """Return the sum of the counts of several processes."""
    total = Counts()
    for counts in all_counts:
        for key, value in counts.values.items():
            total.values[key] += value
        for model, buckets in counts.buckets.items():
            before = total.buckets.get(model, [0] * len(buckets))
            total.buckets[model] = [a + b for a, b in zip(before, buckets, strict=True)]
        for model, seconds in counts.sums.items():
            total.sums[model] += seconds
    return total


class Metrics:
    """Counts, and a histogram of how long a stream waits for the results of a push.

    counts: of this process; others: of those that serve beside it, as far as is known.
    """

    def __init__(self) -> None:
        self.counts = Counts()
        self.others = Counts()
        self.add("earshot_draining", 0)

    def add(self, name: str, amount: float = 1, /, **labels: str) -> None:
        """Add to a counter or gauge, one of HELP."""
        self.counts.values[name, tuple(sorted(labels.items()))] += amount  # type: ignore[assignment]

    def latency(self, model: str, seconds: float) -> None:
        """Count how long a push took."""
        counts = self.counts.buckets.setdefault(model, [0] * (len(BUCKETS) + 1))
        counts[bisect.bisect_left(BUCKETS, seconds)] += 1
        self.counts.sums[model] += seconds  # type: ignore[assignment]

    def text(self) -> str:
        """Return all of it."""
        total = added(self.counts, self.others)
        lines: list[str] = []
        for name, (kind, help) in HELP.items():
            lines += [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
            found = {labels: value for (of, labels), value in total.values.items() if of == name}
            lines += [f"{name}{_braces(k)} {v:g}" for k, v in sorted(found.items())]
        lines += [
            f"# HELP {LATENCY} From the arrival of whole blocks to their events.",
            f"# TYPE {LATENCY} histogram",
        ]
        for model, counts in sorted(total.buckets.items()):
            lines += _histogram(model, counts, total.sums[model])
        return "\n".join(lines) + "\n"


def _histogram(model: str, counts: list[int], seconds: float) -> Iterable[str]:
    below = 0
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
        below += count
        yield f"{LATENCY}_bucket{_braces((('model', model), ('le', bound)))} {below}"
    yield f"{LATENCY}_sum{_braces((('model', model),))} {seconds:g}"
    yield f"{LATENCY}_count{_braces((('model', model),))} {below}"


def _braces(labels: Labels) -> str:
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{inside}}}" if inside else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
