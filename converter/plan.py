"""The plan: everything about an output decided before the first weight is read.

A plan is data. It can be printed, hashed and compared, and it tells where every byte of the file will lie, so that
tiles can be written in any order by any number of threads.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from converter.architectures.target import TargetTensor
from converter.metadata import KeyValue
from converter.quants import QUANT_TYPES

#: Alignment of each tensor's data in a GGUF file, in bytes (``general.alignment``'s default).
ALIGNMENT = 32

#: Elements of a tile, about: 2 MB of float32, which stays in a core's share of the cache on its way through.
TILE_ELEMENTS = 1 << 19


@dataclass(frozen=True)
class PlannedTensor:
    """A target tensor with its type and its place.

    Attributes:
        target: name, shape and pieces.
        type: a name of ``QUANT_TYPES``.
        offset: first byte, counted from the start of the file's data section.
    """

    target: TargetTensor
    type: str
    offset: int

    @property
    def row_bytes(self) -> int:
        return QUANT_TYPES[self.type].row_bytes(self.target.row_length)

    @property
    def nbytes(self) -> int:
        return self.target.rows * self.row_bytes


@dataclass(frozen=True)
class Tile:
    """Rows ``start`` to ``stop`` (exclusive) of the plan's tensor number ``tensor``."""

    tensor: int
    start: int
    stop: int


@dataclass(frozen=True)
class Plan:
    """What a file will hold and where.

    Attributes:
        metadata: the header's key-values, in order.
        tensors: in the order of the file.
        source_files: path, size and modification time (ns) of each input; part of the plan's identity.
        load_dtype: ``f16`` or ``bf16`` to round the source's weights to that type before anything else, or None.
        importance: digest of the importance weights that tensors are quantized with, or None.
    """

    metadata: tuple[KeyValue, ...]
    tensors: tuple[PlannedTensor, ...]
    source_files: tuple[tuple[str, int, int], ...] = ()
    load_dtype: str | None = None
    importance: str | None = None

    @property
    def data_bytes(self) -> int:
        """Length of the data section, the last tensor's padding included."""
        last = self.tensors[-1]
        return aligned(last.offset + last.nbytes)

    @property
    def elements(self) -> int:
        return sum(planned.target.elements for planned in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        return 8 * sum(planned.nbytes for planned in self.tensors) / self.elements

    def tiles(self) -> Iterator[Tile]:
        """All tiles in the order of the file; always the same for the same plan."""
        for number, planned in enumerate(self.tensors):
            rows = max(1, TILE_ELEMENTS // planned.target.row_length)
            for start in range(0, planned.target.rows, rows):
                yield Tile(number, start, min(start + rows, planned.target.rows))

    def digest(self) -> str:
        """SHA-256 of the plan: equal digests mean equal bytes from the same inputs."""
        text = json.dumps([dataclasses.asdict(self), TILE_ELEMENTS], sort_keys=True, default=_plain)
        return hashlib.sha256(text.encode()).hexdigest()


def lay_out(
    metadata: Sequence[KeyValue],
    targets: Sequence[TargetTensor],
    types: Sequence[str],
    source_files: Sequence[tuple[str, int, int]] = (),
    load_dtype: str | None = None,
    importance: str | None = None,
) -> Plan:
    """Give each tensor its place, one after the other, each aligned."""
    tensors, offset = [], 0
    for target, type_name in zip(targets, types, strict=True):
        planned = PlannedTensor(target, type_name, offset)
        tensors.append(planned)
        offset = aligned(offset + planned.nbytes)
    return Plan(tuple(metadata), tuple(tensors), tuple(source_files), load_dtype, importance)


def aligned(nbytes: int) -> int:
    return math.ceil(nbytes / ALIGNMENT) * ALIGNMENT


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)
