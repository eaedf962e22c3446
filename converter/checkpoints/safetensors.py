"""One safetensors file: its header checked in full, its tensors readable by runs of rows.

Layout (the format's own description, https://github.com/huggingface/safetensors#format):

    8 bytes   length N of the header, little-endian
    N bytes   JSON: {"name": {"dtype": "BF16", "shape": [r, c], "data_offsets": [begin, end]}, …}, padded with spaces;
              "__metadata__" maps strings to strings
    the rest  the tensors' bytes, row-major and little-endian, end to end: offsets count from here and leave no hole
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from converter.checkpoints.floats import STORED_FLOATS
from converter.checkpoints.tensor import SourceTensor
from converter.errors import CheckpointError
from converter.sources.contents import LOOKED_AT, described
from converter.sources.source_file import JSON_LIMIT, SourceFile, parse_json_object, quoted

DTYPE_BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits per element of each type that a header may name."""

_MAX_ELEMENTS = 2**60
_MAX_NAME = 1024
_MAX_DIMENSIONS = 64  # numpy's limit
_CHUNK = 2**18
"""Elements read at a time: 512 KiB of 16-bit weights, still in the second-level cache when widened."""
_WORTH_SKIPPING = 64 * 1024
"""Bytes between two spans from which on a second read costs less than reading them along (3 µs at 20 GB/s)."""

_scratch = threading.local()


class Entry(NamedTuple):
    """One tensor as the header describes it; ``begin`` and ``end`` in bytes, from the start of the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class SafetensorsTensor(SourceTensor):
    """A tensor in a safetensors file; ``offset`` in bytes from the start of the file."""

    file: SourceFile = field(repr=False, compare=False)
    offset: int = field(repr=False)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * DTYPE_BITS[self.dtype] // 8

    def read_rows(
        self, start: int, stop: int, columns: slice | None = None, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        if self.dtype not in STORED_FLOATS:
            raise CheckpointError(
                f"{self.file.path}: tensor {self.name} is of type {self.dtype}, expected one of "
                f"{', '.join(STORED_FLOATS)}; save the checkpoint in one of these first"
            )
        first, out = self.span(start, stop, columns, out)
        width = out.shape[1]
        if not out.size:
            return out
        if width == self.row_length:
            self._read_run(start * width, out.reshape(-1))
        elif width >= _CHUNK:
            for row in range(start, stop):
                self._read_run(row * self.row_length + first, out[row - start])
        else:
            self._read_columns(start, first, out)
        return out

    def read_stored(self, start: int, stop: int, columns: slice = slice(None)) -> NDArray[Any]:
        """Rows as they are stored: the elements' bits as unsigned integers of their width.

        Args:
            start, stop: rows, as in :meth:`read_rows`.
            columns: both bounds within the row, no step.

        Returns:
            A fresh C-contiguous array of shape (stop - start, number of columns).
        """
        first, last, _ = columns.indices(self.row_length)
        assert 0 <= start <= stop <= self.rows
        assert first <= last
        stored = np.dtype(f"<u{DTYPE_BITS[self.dtype] // 8}")
        out = np.empty((stop - start, last - first), stored)
        pitch = self.row_length * stored.itemsize
        offset = self.offset + start * pitch
        if last - first == self.row_length:
            self.file.read_into(offset, out)
        elif (
            pitch - out.itemsize * (last - first) >= _WORTH_SKIPPING or self.row_length > _CHUNK or stored.itemsize > 4
        ):
            for index, span in enumerate(out):
                self.file.read_into(offset + index * pitch + first * stored.itemsize, span)
        else:
            at_once = max(1, _CHUNK // self.row_length)
            for begin in range(0, len(out), at_once):
                part = out[begin : begin + at_once]
                chunk = _chunk(stored)[: len(part) * self.row_length].reshape(len(part), self.row_length)
                self.file.read_into(offset + begin * pitch, chunk)
                part[...] = chunk[:, first:last]
        return out

    def _read_run(self, element: int, out: NDArray[np.float32]) -> None:
        """Fill the vector ``out`` with consecutive elements, the first of them at index ``element``."""
        stored = STORED_FLOATS[self.dtype]
        offset = self.offset + element * stored.itemsize
        if self.dtype == "F32":
            self.file.read_into(offset, out)
            return
        for begin in range(0, out.size, _CHUNK):
            part = out[begin : begin + _CHUNK]
            chunk = _chunk(stored.dtype)[: part.size]
            self.file.read_into(offset + begin * stored.itemsize, chunk)
            stored.widen(chunk, part)

    def _read_columns(self, row: int, column: int, out: NDArray[np.float32]) -> None:
        """Fill the matrix ``out``, narrower than a chunk, with what lies from (``row``, ``column``) on."""
        stored, length, width = STORED_FLOATS[self.dtype], self.row_length, out.shape[1]
        skip = length > _CHUNK or (length - width) * stored.itemsize >= _WORTH_SKIPPING
        pitch = width if skip else length  # elements of a row that pass through the chunk
        for begin in range(0, len(out), _CHUNK // pitch):
            part = out[begin : begin + _CHUNK // pitch]
            chunk = _chunk(stored.dtype)[: len(part) * pitch].reshape(len(part), pitch)
            offset = self.offset + (row + begin) * length * stored.itemsize
            if skip:
                for index, span in enumerate(chunk):
                    self.file.read_into(offset + (index * length + column) * stored.itemsize, span)
                stored.widen(chunk, part)
            else:
                self.file.read_into(offset, chunk)
                stored.widen(chunk[:, column : column + width], part)


def read_tensors(file: SourceFile) -> dict[str, SafetensorsTensor]:
    """The tensors of a safetensors file, in the order in which they lie in it. Only the header is read.

    Raises:
        CheckpointError: the file is not safetensors, or its header contradicts itself or the file's size.
    """
    begin = file.read_bytes(0, min(file.size, LOOKED_AT))
    length = int.from_bytes(begin[:8], "little")
    # A header begins with a brace; anything else is not safetensors, and what it is may be told.
    if begin[8:9] != b"{" and (what := described(begin, file.size)):
        raise CheckpointError(f"{file.path}: {what}")
    if file.size < 8:
        raise CheckpointError(f"{file.path}: has {file.size} bytes, too few for safetensors; download it again")
    if length > JSON_LIMIT:
        raise CheckpointError(
            f"{file.path}: announces a header of {length} bytes, expected at most {JSON_LIMIT}; "
            "it is not a safetensors file"
        )
    if length > file.size - 8:
        raise CheckpointError(
            f"{file.path}: announces a header of {length} bytes but has only {file.size} bytes in all; "
            "download it again"
        )
    data = 8 + length
    entries = parse_header(file.read_bytes(8, length), file.size - data, str(file.path))
    return {
        name: SafetensorsTensor(name, entry.dtype, entry.shape, file, data + entry.begin)
        for name, entry in entries.items()
    }


def parse_header(text: bytes, data_bytes: int, path: str) -> dict[str, Entry]:
    """Check a header against the number of bytes that follow it.

    Args:
        text: the header's JSON.
        data_bytes: bytes of the file behind the header.
        path: the file, for messages.

    Returns:
        The tensors in the order of their offsets.

    Raises:
        CheckpointError: anything that the format forbids.
    """
    members = parse_json_object(text, f"{path}: the header", strict=True)
    metadata = members.pop("__metadata__", None)  # null counts as absent, as in the format's own library
    if metadata is not None and not (
        isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    ):
        raise CheckpointError(f"{path}: __metadata__ is {quoted(metadata)}, expected an object of strings")
    entries = {name: _entry(name, member, path) for name, member in members.items()}
    ordered = sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end))
    position, before = 0, "the header"
    for name, entry in ordered:
        if entry.end > data_bytes:
            raise CheckpointError(
                f"{path}: is truncated: tensor {name} ends at byte {entry.end} of the data, "
                f"of which there are {data_bytes}; download the file again"
            )
        if entry.begin != position:
            verb = "overlaps" if entry.begin < position else "leaves a hole behind"
            raise CheckpointError(
                f"{path}: tensor {name} begins at byte {entry.begin} of the data and {verb} {before}, "
                f"which ends at {position}; download the file again"
            )
        position, before = entry.end, name
    if position != data_bytes:
        raise CheckpointError(
            f"{path}: has {data_bytes} bytes of data, its header describes {position}; download the file again"
        )
    return dict(ordered)


def _entry(name: str, member: Any, path: str) -> Entry:
    where = f"{path}: tensor {quoted(name)}"
    if not name.isprintable() or len(name) > _MAX_NAME:
        raise CheckpointError(f"{where}: expected a name of at most {_MAX_NAME} printable characters")
    if not isinstance(member, dict) or member.keys() != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{where}: is {quoted(member)}, expected dtype, shape and data_offsets")
    dtype, shape, offsets = member["dtype"], member["shape"], member["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise CheckpointError(f"{where}: dtype is {quoted(dtype)}, expected one of {', '.join(DTYPE_BITS)}")
    if not _are_sizes(shape) or len(shape) > _MAX_DIMENSIONS or math.prod(size or 1 for size in shape) > _MAX_ELEMENTS:
        raise CheckpointError(f"{where}: shape is {quoted(shape)}, expected a list of sizes")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{where}: data_offsets is {quoted(offsets)}, expected [begin, end]")
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if bits != (offsets[1] - offsets[0]) * 8:
        raise CheckpointError(
            f"{where}: {dtype} {quoted(shape)} takes {bits / 8:.10g} bytes, data_offsets spans "
            f"{offsets[1] - offsets[0]}; download the file again"
        )
    return Entry(dtype, tuple(shape), *offsets)


def _are_sizes(value: Any) -> bool:
    # bool is an int to Python; a size is not.
    return isinstance(value, list) and all(type(size) is int and 0 <= size <= _MAX_ELEMENTS for size in value)


def _chunk(dtype: DTypeLike) -> NDArray[Any]:
    """This thread's memory for one chunk of stored elements."""
    memory: NDArray[np.uint32] | None = getattr(_scratch, "memory", None)
    needed = _CHUNK * max(np.dtype(dtype).itemsize // 4, 1)
    if memory is None or len(memory) < needed:
        memory = _scratch.memory = np.empty(needed, np.uint32)
    return memory.view(dtype)[:_CHUNK]
