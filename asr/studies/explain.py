"""`asr explain`: gates, states and gradients of a training run, drawn for a recording."""

from pathlib import Path

from asr.studies.inspection import look_inside
from asr.studies.plot_explain import plot_explanation


def explain(run: Path, recording: Path, out: Path, compare: Path | None = None) -> None:
    """Draw the gates, the states and the gradients of a training run for a recording to a PNG file.

    compare: a second run, whose gradients are drawn beside those of the first. Raises EarshotError.
    """
    explanations = [look_inside(path, recording) for path in (run, compare) if path is not None]
    plot_explanation(explanations[0], explanations[1:], out)
