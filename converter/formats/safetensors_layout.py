"""Where tensors lie in files of safetensors, and the headers and the index that say so.

Layout: https://github.com/huggingface/safetensors#format; the index is that of transformers' ``save_pretrained``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from converter.checkpoints.safetensors import DTYPE_BITS
from converter.formats.layout import Layout
from converter.formats.model_directory import ModelDirectory
from converter.plan import PlannedTensor, Positions
from converter.quants.encoding import StoredTensor

#: Bytes of tensors in each file at most, transformers' own default of 2025.
MAX_SHARD = 5_000_000_000

INDEX = "model.safetensors.index.json"
_METADATA = {"format": "pt"}


@dataclass(frozen=True)
class SafetensorsLayout(Layout):
    """A directory of one file, or of several and their index.

    Attributes:
        directory: everything else in it.
    """

    directory: ModelDirectory | None = None

    def write_headers(self, paths: Sequence[Path]) -> Positions:
        folder = paths[0].parent
        assert self.directory is not None
        self.directory.write(folder)
        if len(self.names) > 1:
            (folder / INDEX).write_text(json.dumps(self._index(), indent=2, sort_keys=True) + "\n", encoding="utf-8")
        positions: dict[str, int] = {}
        for number, path in enumerate(paths):
            in_it = [planned for planned in self.plan.tensors if planned.file == number]
            positions |= write_header(path, in_it)
        return [tuple(positions[stored.name] for stored in planned.stored) for planned in self.plan.tensors]

    def _index(self) -> dict[str, Any]:
        places = {stored.name: self.names[planned.file] for planned in self.plan.tensors for stored in planned.stored}
        return {"metadata": {"total_size": self.plan.data_bytes}, "weight_map": places}


def write_header(path: Path, tensors: Sequence[PlannedTensor]) -> dict[str, int]:
    """Write a file's header and give the file its full length.

    Returns:
        Position of each stored tensor by name.
    """
    described: dict[str, Any] = {"__metadata__": _METADATA}
    begins: dict[str, int] = {}
    position = 0
    for stored, nbytes in in_order(tensors):
        begins[stored.name] = position
        described[stored.name] = {
            "dtype": stored.dtype,
            "shape": stored.shape,
            "data_offsets": [position, position + nbytes],
        }
        position += nbytes
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        start = file.tell()
        os.truncate(file.fileno(), start + position)
    return {name: start + begin for name, begin in begins.items()}


def in_order(tensors: Sequence[PlannedTensor]) -> Iterator[tuple[StoredTensor, int]]:
    """What is stored, with its bytes: wide types first, as the format's own library does, so that all are aligned."""
    every = [(stored, stored.nbytes(planned.target.rows)) for planned in tensors for stored in planned.stored]
    return iter(sorted(every, key=lambda item: (-DTYPE_BITS[item[0].dtype], item[0].name)))


def sharded(groups: Sequence[Sequence[PlannedTensor]], limit: int) -> tuple[tuple[PlannedTensor, ...], tuple[str, ...]]:
    """Give each tensor its file.

    Args:
        groups: tensors that belong together, in order.
        limit: bytes of tensors in each file at most; a single group may have more.

    Returns:
        The tensors, and the names of the files.
    """
    tensors, number, filled = [], 0, 0
    for group in groups:
        nbytes = sum(planned.nbytes for planned in group)
        if filled and filled + nbytes > limit:
            number, filled = number + 1, 0
        filled += nbytes
        tensors += [replace(planned, file=number) for planned in group]
    count = number + 1
    if count == 1:
        return tuple(tensors), ("model.safetensors",)
    return tuple(tensors), tuple(f"model-{part:05}-of-{count:05}.safetensors" for part in range(1, count + 1))
