"""--save of `asr listen`: it says what is kept, and goes on listening when the disk is full."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import all_keywords
from asr.cli.terminal import note
from asr.files import WriteError
from features.paths import shown

if TYPE_CHECKING:
    import numpy as np

    from asr.card import ModelCard
    from asr.decode.keywords.typed import SpotOptions
    from asr.events import Event
    from asr.model import Model

SaveOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Keep the sound of keywords that fired or nearly did. (default: nothing)",
    ),
]


def watched(model: "Model", spotting: "SpotOptions | None") -> "SpotOptions":
    """The options with near misses, of all keywords of the model if none are typed."""
    from asr.decode.keywords.typed import SpotOptions

    if spotting is not None:
        return replace(spotting, near_misses=True)
    keywords = all_keywords(model.card, "--save keeps the sound of")
    return SpotOptions(keywords=keywords, near_misses=True)


class Saver:
    """Keeps what events are about, if there is a folder; passes on the events to be shown."""

    def __init__(self, folder: Path | None, card: "ModelCard", near_misses: bool) -> None:
        from asr.kept import AROUND_SECONDS, MOST_BYTES, Keeper

        self._shows_near = near_misses or folder is None
        self._keeper = None
        if folder is not None:
            self._keeper = Keeper(folder, card.name, card.sample_rate)
            note(
                f"keeping the sound of keywords that fire or nearly do in {shown(folder)}: "
                f"{AROUND_SECONDS:g} s before and after, {MOST_BYTES // 1_000_000} MB at most"
            )

    def push(self, block: "np.ndarray", events: "list[Event]") -> "list[Event]":
        """Take a block and what it brought."""
        return self._keep(events, block)

    def finish(self, events: "list[Event]") -> "list[Event]":
        """Take what the end of the stream brought."""
        return self._keep(events)

    def _keep(self, events: "list[Event]", block: "np.ndarray | None" = None) -> "list[Event]":
        from asr.events import NearMiss

        if self._keeper is not None:
            try:
                if block is None:
                    self._keeper.finish(events)
                else:
                    self._keeper.push(block, events)
                if self._keeper.full:
                    self._stop("the folder is full; review it, and delete recordings")
            except WriteError as error:
                self._stop(str(error))
        return [event for event in events if self._shows_near or not isinstance(event, NearMiss)]

    def _stop(self, reason: str) -> None:
        note(f"warning: no more sound is kept: {reason}")
        self._keeper = None
