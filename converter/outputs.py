"""Paths that are written to: what may stand there, and how much does."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from converter.errors import OutputError, UsageError

#: Decimal units, as llama.cpp's splitting tool has them.
UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3}

#: Links that are followed from one to the next, as Linux does.
_MOST_LINKS = 40


#: What may stand where a file should be written, and is none.
SPECIAL = (
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)

#: Where a process finds its own open files; ``/dev/stdout`` and ``/dev/fd`` lead there.
_OPEN_FILES = re.compile(r"/proc/(\d+|self|thread-self)(/task/\d+)?/fd")


def check_output(path: Path, *, overwrite: bool, directory: bool = False) -> None:
    """Refuse an output that cannot or must not be written, before any work. Directories that lack are made later.

    Args:
        path: the file, or the directory that will hold a model.
        overwrite: what is there may be replaced.
        directory: whether it is a directory.

    Raises:
        OutputError: no directory to write in; a device, a pipe, a socket; something is there already and may not be
            replaced, or is a directory that is no model.
    """
    try:
        if special := special_file(path):
            raise OutputError(
                f"{path}: is {special}, but an output is written at many places and read back, which only a regular "
                "file can take; name one"
            )
        check_parents(path)
        if directory and path.is_dir() and not any(path.iterdir()):
            return
        if path.exists() and not overwrite:
            raise OutputError(f"{path}: exists already; pass --overwrite to replace it or choose another --output")
        if path.is_dir() and not (directory and (path / "config.json").is_file()):
            what = "a directory of other things than a model" if directory else "a directory, a file expected"
            raise OutputError(f"{path}: is {what}; choose another --output")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another --output") from error


def special_file(path: Path) -> str | None:
    """What a path means, itself or through links, that is neither a regular file nor a directory: a few words or None.

    Raises:
        OSError: it cannot be looked at.
    """
    if str(path) == "-":
        return "standard output"
    step = path
    for _ in range(_MOST_LINKS):
        if _OPEN_FILES.fullmatch(str(step.parent.resolve())):
            return "an open file of this process, such as standard output"
        if not step.is_symlink():
            break
        step = step.parent / step.readlink()
    mode = path.stat().st_mode if path.exists() else 0
    return next((name for test, name in SPECIAL if test(mode)), None)


def check_parents(path: Path) -> None:
    """Refuse a path whose directory neither exists nor can be made.

    Raises:
        OutputError: a file stands in the way, or the nearest directory may not be written to.
    """
    nearest = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not nearest.is_dir():
        raise OutputError(f"{path}: {nearest} is not a directory; choose another --output")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: directory {nearest} may not be written to; choose another --output")


def make_parents(path: Path) -> None:
    """Make the directories that a file will lie in.

    Raises:
        OutputError: they cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent}: cannot be made: {error.strerror}; choose another --output") from error


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
