"""The encoders by name: which cell, in which directions, and what stands around it.

A new cell is a file in this package with a `Cell`, and a line in KINDS.
"""

from dataclasses import dataclass

from asr.training.network.cells.cell import Cell
from asr.training.network.cells.convlstm import BANDS, ConvLstm, MapStem
from asr.training.network.cells.gru import Gru
from asr.training.network.cells.lstm import Lstm
from asr.training.network.cells.peephole import Peephole
from asr.training.network.cells.rnn import Rnn
from asr.training.network.stem import Stem


@dataclass(frozen=True)
class Kind:
    """What an encoder is made of.

    attention: self-attention between its layers, and as many heads in the pooling of a classifier.
    bands: frequency bands of its frames; all sizes are multiples of this.
    """

    cell: type[Cell]
    bidirectional: bool = False
    attention: bool = False
    stem: type[Stem] = Stem
    bands: int = 1


KINDS = {
    "rnn": Kind(Rnn),
    "lstm": Kind(Lstm),
    "bilstm": Kind(Lstm, bidirectional=True),
    "gru": Kind(Gru),
    "bigru": Kind(Gru, bidirectional=True),
    "peephole": Kind(Peephole),
    "convlstm": Kind(ConvLstm, stem=MapStem, bands=BANDS),
    "attention": Kind(Lstm, bidirectional=True, attention=True),
}
