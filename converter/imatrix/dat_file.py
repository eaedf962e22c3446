"""The older format, little-endian, without a signature:

    int32 entries
    for each entry    int32 length of the name, the name
                      int32 chunks
                      int32 values, float32 each: mean square of a column × chunks
    then, optional    int32 chunks of the whole run
                      int32 length of the text's name, the name

An expert that was never chosen holds ones. Layout: ``save_imatrix_legacy`` of llama.cpp's ``tools/imatrix``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from converter.imatrix.matrix import LONGEST_NAME, Entry, ImatrixError, ImportanceMatrix, check_name, checked


class _Fields:
    """Fields of a file one after the other; none is read before it is known to lie within the file."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self.stream = stream
        self.path = path
        self.left = os.fstat(stream.fileno()).st_size

    def bytes(self, length: int, what: str) -> bytes:
        if length > self.left:
            raise ImatrixError(
                f"{self.path}: not an importance matrix, or cut short: {what} needs {length} bytes, {self.left} left"
            )
        self.left -= length
        return self.stream.read(length)

    def number(self, what: str, least: int, most: int = 2**31 - 1) -> int:
        value = int.from_bytes(self.bytes(4, what), "little", signed=True)
        if not least <= value <= most:
            raise ImatrixError(f"{self.path}: not an importance matrix: {what} is {value}, expected {least} to {most}")
        return value

    def text(self, what: str, least: int, most: int) -> str:
        data = self.bytes(self.number(f"the length of {what}", least, most), what)
        try:
            return data.decode()
        except ValueError:
            raise ImatrixError(f"{self.path}: not an importance matrix: {what} is {data[:40]!r}, not UTF-8") from None


def read_dat(stream: BinaryIO, path: Path, chunk_size: int) -> ImportanceMatrix:
    """Read the older format; see :func:`converter.imatrix.read_imatrix`."""
    fields = _Fields(stream, path)
    entries: dict[str, Entry] = {}
    for number in range(1, fields.number("the number of entries", 1) + 1):
        name = fields.text(f"the name of entry {number}", 1, LONGEST_NAME)
        check_name(name, str(path))
        chunks = fields.number(f"the number of chunks of {name}", 1)
        length = fields.number(f"the number of values of {name}", 1)
        means = np.frombuffer(fields.bytes(4 * length, f"{length} values of {name}"), "<f4")
        if name in entries:
            raise ImatrixError(f"{path}: {name} appears twice, expected once")
        entries[name] = checked(_scaled(means, chunk_size), np.array([chunks * chunk_size]), name, str(path))
    chunk_count = max(int(entry.counts[0]) for entry in entries.values()) // chunk_size
    dataset = ""
    if fields.left:
        chunk_count = fields.number("the number of chunks", 0)
        dataset = fields.text("the name of the text", 0, 2**20)
    if fields.left:
        raise ImatrixError(f"{path}: {fields.left} bytes follow the name of the text, expected the file's end")
    return ImportanceMatrix(entries, chunk_size, chunk_count, (dataset,) if dataset else (), str(path))


def write_dat(path: Path, matrix: ImportanceMatrix) -> None:
    """Write the older format; entries without data are left out, as llama.cpp leaves them out."""
    entries = {name: entry for name, entry in sorted(matrix.entries.items()) if entry.has_data}
    with path.open("wb") as stream:
        stream.write(_int32(len(entries)))
        for name, entry in entries.items():
            chunks = -(-int(entry.counts.max()) // matrix.chunk_size)
            stream.write(_text(name) + _int32(chunks) + _int32(entry.sums.size))
            stream.write((entry.importance * np.float32(chunks)).astype("<f4").tobytes())
        stream.write(_int32(matrix.chunk_count) + _text(matrix.datasets[-1] if matrix.datasets else ""))


def _scaled(means: NDArray[np.float32], chunk_size: int) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused with its name
        return means.astype(np.float32) * np.float32(chunk_size)


def _int32(value: int) -> bytes:
    return value.to_bytes(4, "little", signed=True)


def _text(value: str) -> bytes:
    return _int32(len(value.encode())) + value.encode()
