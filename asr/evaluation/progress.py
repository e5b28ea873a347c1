"""How far a long measurement is, on a terminal."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def tracked(items: Sequence[Item], description: str) -> Iterable[Item]:
    """Iterate over items under a bar on stderr; nothing is shown unless that is a terminal."""
    console = Console(stderr=True)
    silent = not console.is_terminal
    return track(items, description, console=console, transient=True, disable=silent)
