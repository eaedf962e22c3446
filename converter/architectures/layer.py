"""One layer of a model as a value, and the names by which a family knows its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Names of a family's tensors: of each GGUF name, without ``blk.N.`` and ``.weight``, the checkpoint's, without its
#: layer's name and ``.weight``. Several are spellings of different releases, of which the first that is there counts.
#: In the name of an expert's own matrix ``*`` stands for its number.
Names = Mapping[str, str | tuple[str, ...]]


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        number: from 0.
        source: what its tensors' names begin with in the checkpoint, e.g. ``model.layers.3``.
        target: the same in the output, e.g. ``blk.3``.
        kind: what stands in it, in the words of the family; empty where all layers are alike.
    """

    number: int
    source: str
    target: str
    kind: str = ""


def stack(source: str, kinds: Sequence[str], target: str = "blk") -> list[Layer]:
    """The layers ``{source}.0``, ``{source}.1``, …, one for each kind."""
    return [Layer(number, f"{source}.{number}", f"{target}.{number}", kind) for number, kind in enumerate(kinds)]
