"""How far a long measurement is, on a terminal."""

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def tracked(items: Iterable[Item], description: str, total: int | None = None) -> Iterable[Item]:
    """Iterate over items under a bar on stderr; nothing is shown unless that is a terminal.

    total: how many there are, where `items` do not say.
    """
    console = Console(stderr=True)
    console.quiet = silent = not console.is_terminal  # rich 13 ends a disabled bar with a line
    return track(items, description, total=total, console=console, transient=True, disable=silent)
