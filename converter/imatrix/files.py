"""Files of importance matrices, recognised by their first bytes; written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from converter.errors import OutputError, UsageError
from converter.imatrix.dat_file import read_dat, write_dat
from converter.imatrix.gguf_file import read_gguf, write_gguf
from converter.imatrix.matrix import CHUNK_SIZE, ImatrixError, ImportanceMatrix

WRITERS: dict[str, Callable[[Path, ImportanceMatrix], None]] = {".gguf": write_gguf, ".dat": write_dat}


def read_imatrix(path: str | Path, chunk_size: int = CHUNK_SIZE) -> ImportanceMatrix:
    """Read an importance matrix of either of llama.cpp's formats.

    Args:
        path: the file.
        chunk_size: tokens of a chunk in a ``.dat`` file, which counts chunks only. It decides how much the file
            weighs when it is combined with others, and for a power of two leaves every value bit for bit as it is.

    Raises:
        ImatrixError: it is not an importance matrix, is cut short, or holds what none can hold.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            if stream.read(4) == b"GGUF":
                return read_gguf(path)[0]
            stream.seek(0)
            return read_dat(stream, path, chunk_size)
    except OSError as error:
        raise ImatrixError(f"{path}: cannot be read: {error.strerror or error}") from error


def check_suffix(path: Path) -> None:
    """Refuse a name that does not tell the format."""
    if path.suffix not in WRITERS:
        raise UsageError(f"{path}: ends in {path.suffix!r}, expected a name in {' or '.join(WRITERS)}")


def write_imatrix(path: str | Path, matrix: ImportanceMatrix) -> None:
    """Write a file that llama-quantize reads: llama.cpp's GGUF, or its older format for a name in ``.dat``.

    Raises:
        UsageError: the name ends otherwise.
        OutputError: the file cannot be written.
        ImatrixError: there is nothing to write.
    """
    path = Path(path)
    check_suffix(path)
    if not any(entry.has_data for entry in matrix.entries.values()):
        raise ImatrixError(f"{path}: not written: {matrix.origin} has no data for any tensor")
    write_whole(path, lambda beside: WRITERS[path.suffix](beside, matrix))


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file under another name and rename it when it is complete.

    Raises:
        OutputError: it cannot be written.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        try:
            write(beside)
            with beside.open("rb") as stream:
                os.fsync(stream.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
