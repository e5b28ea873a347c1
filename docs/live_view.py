"""Draw docs/live.svg: the view of demo_mic.py at the end of a recording.

python docs/live_view.py samples/commands.flac
"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console

import asr
import demo_mic

WIDTH = 92


def main(recording: str) -> None:
    """Recognise a recording and draw the view at its end."""
    stream = asr.Stream(asr.load("commands"))
    listener = demo_mic.Listener(asr.Playback(recording, stream.card.sample_rate), stream)
    for block in listener.source:
        listener.push(block)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(listener.view())
    # The fonts would be loaded from elsewhere.
    picture = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="demo_mic.py"), flags=re.S)
    Path(__file__).with_name("live.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
