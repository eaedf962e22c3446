"""How the rows of a target tensor become the bytes of a container's tensors.

GGUF stores a target as one run of blocks. Other containers take the same blocks apart, the integers in one tensor and
the scales in another. An encoding says both which tensors are stored and how rows become their bytes, so that any
container is written tile by tile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.quants.registry import QUANT_TYPES, QuantType


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the container holds it.

    Attributes:
        name: its name there.
        dtype: its type as the container spells it.
        shape: row-major.
        unit_bytes: bytes of one unit: a row of the target, or a few of them.
        unit_rows: rows of the target in a unit; the last unit may stand for fewer.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    unit_bytes: int
    unit_rows: int = 1

    def nbytes(self, rows: int) -> int:
        """Bytes of so many rows of the target."""
        return math.ceil(rows / self.unit_rows) * self.unit_bytes


@dataclass(frozen=True)
class Encoding:
    """A target as one tensor that holds a GGUF type's blocks as they are. Others override what differs.

    Attributes:
        name: unlike any other encoding's; it stands for this one in a plan's digest.
        block_type: the name in ``QUANT_TYPES`` of the blocks that :meth:`split` takes apart.
        tile_rows: a tile starts at a multiple of so many rows.
        takes_blocks: whether blocks that the source holds already may be split as they are.
    """

    name: str
    block_type: str
    tile_rows: int = 1
    takes_blocks: bool = True

    @property
    def kind(self) -> QuantType:
        return QUANT_TYPES[self.block_type]

    def stored(self, name: str, shape: tuple[int, ...]) -> tuple[StoredTensor, ...]:
        """What the container holds for a target of this name and row-major shape.

        Raises:
            RecipeError: rows of this length cannot be encoded.
        """
        return (StoredTensor(name, self.name, shape, self.kind.row_bytes(shape[-1])),)

    def encode(
        self, rows: NDArray[np.float32], importance: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.uint8], ...]:
        """Rows as bytes: for each stored tensor an array (units, unit_bytes).

        Args:
            rows: float32 (n, row_length), C-contiguous, finite.
            importance: float32 (row_length,), weights of the columns.

        Raises:
            WeightTooLarge: a number that the blocks rely on is not finite.
        """
        return self.split(self.checked(self.kind.quantize(rows, importance=importance)))

    def checked(self, blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The blocks, if each of their numbers is finite."""
        if overflowed := self.kind.overflowed(blocks):
            raise WeightTooLarge(overflowed)
        return blocks

    def split(self, blocks: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
        """Blocks (n, row_bytes) as the bytes of each stored tensor."""
        return (blocks,)


class WeightTooLarge(ValueError):
    """Weights or scales exceed float16's largest number; ``count`` of them."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


#: GGUF's encodings, by type.
BLOCKS = {name: Encoding(name, name) for name in QUANT_TYPES}
