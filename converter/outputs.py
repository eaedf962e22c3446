"""Paths that are written to: what may stand there, and how much does."""

from __future__ import annotations

import re
from pathlib import Path

from converter.errors import OutputError, UsageError

#: Decimal units, as llama.cpp's splitting tool has them.
UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3}


def check_output(path: Path, *, overwrite: bool, directory: bool = False) -> None:
    """Refuse an output that cannot or must not be written, before any work.

    Args:
        path: the file, or the directory that will hold a model.
        overwrite: what is there may be replaced.
        directory: whether it is a directory.

    Raises:
        OutputError: no directory to write in; something is there already and may not be replaced, or is a directory
            that is no model.
    """
    if not path.parent.is_dir():
        raise OutputError(f"{path}: directory {path.parent} does not exist; create it first")
    if directory and path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; pass --overwrite to replace it or choose another --output")
    if path.is_dir() and not (directory and (path / "config.json").is_file()):
        raise OutputError(f"{path}: is a directory of other things than a model; choose another --output")


def nbytes_of(path: Path) -> int:
    """Bytes of a file, or of all files in a directory."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def parse_size(text: str | int) -> int:
    """A number of bytes from ``500M``, ``4G`` or digits.

    Raises:
        UsageError: it is none.
    """
    match = re.fullmatch(r"([0-9]{1,15})([KMG]?)", str(text).upper())
    if match is None or not int(match[1]):
        raise UsageError(f"{text!r} is not a size such as 500M or 4G")
    return int(match[1]) * UNITS[match[2]]


def size(nbytes: int) -> str:
    """Bytes in the unit a person would use."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= scale:
            return f"{nbytes / scale:.2f} {unit}"
    return f"{nbytes} bytes"
