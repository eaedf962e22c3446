"""A GGUF model as a source, in one file or several: tensors' rows, widened to float32 or as the blocks they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.directory import Checkpoint
from converter.checkpoints.tensor import SourceTensor
from converter.errors import CheckpointError
from converter.gguf.parts import SPLIT_KEYS, Part, open_parts
from converter.gguf.reader import GgufHeader, TensorInfo
from converter.quants import QUANT_TYPES, QuantType
from converter.sources.source_file import SourceFile

_BY_NUMBER = {kind.ggml_type: kind for kind in QUANT_TYPES.values()}

#: Keys that describe the files and not the model; an output is laid out anew.
_LAYOUT_KEYS = (*SPLIT_KEYS, "general.alignment")

#: Bytes of blocks dequantized at a time.
CHUNK_BYTES = 1 << 19


@dataclass(frozen=True)
class GgufTensor(SourceTensor):
    """A tensor of a GGUF file; ``dtype`` is its type's name, e.g. ``q4_0``.

    Attributes:
        file: where it lies.
        begin: position of its first byte.
    """

    file: SourceFile = field(repr=False, compare=False)
    begin: int

    @property
    def kind(self) -> QuantType:
        return QUANT_TYPES[self.dtype]

    @property
    def nbytes(self) -> int:
        return self.rows * self.kind.row_bytes(self.row_length)

    def read_blocks(self, type_name: str, start: int, stop: int) -> NDArray[np.uint8] | None:
        if type_name != self.dtype:
            return None
        blocks = np.empty((stop - start, self.kind.row_bytes(self.row_length)), np.uint8)
        self.file.read_into(self.begin + start * blocks.shape[1], blocks)
        return blocks

    def read_rows(
        self, start: int, stop: int, columns: slice | None = None, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        first, out = self.span(start, stop, columns, out)
        step = max(1, CHUNK_BYTES // self.kind.row_bytes(self.row_length))
        for row in range(start, stop, step):
            end = min(row + step, stop)
            blocks = self.read_blocks(self.dtype, row, end)
            assert blocks is not None
            values = self.kind.dequantize(blocks)
            out[row - start : end - start] = values[:, first : first + out.shape[1]]
        return out


def open_gguf_checkpoint(
    path: Path, elsewhere: Mapping[str, SourceFile] = MappingProxyType({})
) -> tuple[GgufHeader, Checkpoint]:
    """A GGUF model's key-values, tensors and files. Only headers are read.

    Args:
        path: the whole file, or any of its parts.
        elsewhere: files that belong to the directory and lie somewhere else, by their names in it.

    Returns:
        The first file's header, without the keys of its layout, and with all parts' tensors; and the checkpoint,
        whose ``config`` is empty.

    Raises:
        CheckpointError: no GGUF, damaged, a part missing, or a tensor of an unknown type or outside its file.
    """
    parts = open_parts(path, elsewhere)
    header = replace(
        parts[0].header,
        metadata=tuple(pair for pair in parts[0].header.metadata if pair.key not in _LAYOUT_KEYS),
        tensors=tuple(info for part in parts for info in part.header.tensors),
    )
    if not header.tensors or not isinstance(header.value("general.architecture"), str):
        raise CheckpointError(f"{path}: has no tensors or no general.architecture; a whole model expected")
    tensors = {info.name: _tensor(info, part) for part in parts for info in part.header.tensors}
    files = tuple(part.file for part in parts)
    identities, nbytes = tuple(file.identity for file in files), sum(tensor.nbytes for tensor in tensors.values())
    return header, Checkpoint(path, {}, MappingProxyType(tensors), identities, nbytes, files)


def type_of(info: TensorInfo, path: Path) -> QuantType:
    """The type of a tensor; CheckpointError where it is unknown or does not go with the shape."""
    kind = _BY_NUMBER.get(info.ggml_type)
    if kind is None:
        raise CheckpointError(f"{path}: tensor {info.name} is of type {info.ggml_type}, which is not known")
    if info.shape[-1] % kind.block_size or not math.prod(info.shape):
        raise CheckpointError(f"{path}: tensor {info.name}: shape {list(info.shape)} is none for {kind.name}")
    return kind


def _tensor(info: TensorInfo, part: Part) -> SourceTensor:
    file = part.file
    kind = type_of(info, file.path)
    tensor = GgufTensor(info.name, kind.name, info.shape, file, part.header.data_start + info.offset)
    if tensor.begin + tensor.nbytes > file.size:
        raise CheckpointError(
            f"{file.path}: is truncated: tensor {info.name} ends at byte {tensor.begin + tensor.nbytes} of "
            f"{file.size}; download the file again"
        )
    return tensor
