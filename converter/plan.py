"""The plan: everything about an output decided before the first weight is read.

A plan is data. It can be printed, hashed and compared, and it tells how many bytes every tensor of the output takes,
so that tiles can be written in any order by any number of threads.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from converter.gguf.key_values import KeyValue
from converter.quants.encoding import BLOCKS, Encoding, StoredTensor

if TYPE_CHECKING:
    from converter.architectures.target import TargetTensor

#: Elements of a tile, about: 2 MB of float32, which stays in a core's share of the cache on its way through.
TILE_ELEMENTS = 1 << 19

#: For each planned tensor the position of each of its stored tensors in their file.
Positions = list[tuple[int, ...]]


@dataclass(frozen=True)
class PlannedTensor:
    """A target tensor and what becomes of it.

    Attributes:
        target: name, shape and pieces.
        encoding: how its rows become bytes.
        file: number of the output's file that holds it.
    """

    target: TargetTensor
    encoding: Encoding
    file: int = 0

    @property
    def type(self) -> str:
        return self.encoding.name

    @cached_property
    def stored(self) -> tuple[StoredTensor, ...]:
        """The tensors of the container that it becomes."""
        return self.encoding.stored(self.target.name, self.target.shape)

    @property
    def nbytes(self) -> int:
        return self.nbytes_of(self.target.rows)

    def nbytes_of(self, rows: int) -> int:
        """Bytes of so many of its rows."""
        return sum(stored.nbytes(rows) for stored in self.stored)


@dataclass(frozen=True)
class Tile:
    """Rows ``start`` to ``stop`` (exclusive) of the plan's tensor number ``tensor``."""

    tensor: int
    start: int
    stop: int


@dataclass(frozen=True)
class Plan:
    """What an output will hold.

    Attributes:
        metadata: a GGUF header's key-values, in order.
        tensors: in the order of the files.
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
        """Bytes of all tensors, without any padding."""
        return sum(planned.nbytes for planned in self.tensors)

    @property
    def elements(self) -> int:
        return sum(planned.target.elements for planned in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.data_bytes / self.elements if self.elements else 0.0

    def tiles(self) -> Iterator[Tile]:
        """All tiles in the order of the tensors; always the same for the same targets and tile_rows."""
        for number, planned in enumerate(self.tensors):
            step = planned.encoding.tile_rows
            rows = max(step, TILE_ELEMENTS // planned.target.row_length // step * step)
            for start in range(0, planned.target.rows, rows):
                yield Tile(number, start, min(start + rows, planned.target.rows))

    def reads_like(self, other: Plan) -> bool:
        """Whether both have the same tiles, made of the same numbers."""
        return self.load_dtype == other.load_dtype and [
            (planned.target, planned.encoding.tile_rows) for planned in self.tensors
        ] == [(planned.target, planned.encoding.tile_rows) for planned in other.tensors]

    def digest(self) -> str:
        """SHA-256 of the plan: equal digests mean equal bytes from the same inputs."""
        content = [
            [pair.digest for pair in self.metadata],
            [[dataclasses.asdict(planned.target), planned.type, planned.file] for planned in self.tensors],
            [self.source_files, self.load_dtype, self.importance, TILE_ELEMENTS],
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def lay_out(
    metadata: Sequence[KeyValue],
    targets: Sequence[TargetTensor],
    types: Sequence[str],
    source_files: Sequence[tuple[str, int, int]] = (),
    load_dtype: str | None = None,
    importance: str | None = None,
) -> Plan:
    """A plan of one GGUF file: each target as blocks of its type."""
    tensors = [PlannedTensor(target, BLOCKS[name]) for target, name in zip(targets, types, strict=True)]
    return Plan(tuple(metadata), tuple(tensors), tuple(source_files), load_dtype, importance)
