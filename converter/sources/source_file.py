"""One input file: opened late, checked to be what it was, read by position.

Reads are ``preadv`` at an offset into memory the caller owns. Nothing is mapped, so the resident set does not grow
with the file, and a read shares no state with another, so threads need no lock around it.
"""

from __future__ import annotations

import codecs
import json
import os
import stat
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.errors import CheckpointError, ConversionError
from converter.sources.contents import LOOKED_AT, described

JSON_LIMIT = 100_000_000
"""Bytes of JSON that are read at most; safetensors puts the same limit on its header."""

DEEPEST = 64
"""Levels of objects and lists in a file of a checkpoint; what reads or writes one deeper could exhaust the stack."""

_LFS_PREFIX = b"version https://git-lfs"


@dataclass(frozen=True)
class FileIdentity:
    """What tells that an input is still the file it was: its absolute path, size in bytes and modification time."""

    path: Path
    size: int
    mtime_ns: int


class SourceFile:
    """A regular file of a checkpoint.

    Args:
        path: the file; links are followed.

    Raises:
        CheckpointError: it does not exist, may not be read, is not a regular file, or is a Git LFS pointer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._fd = -1
        self._release: Callable[[], object] | None = None
        self._identity: FileIdentity | None = None
        self._descriptor()
        if self.size < 1024 and self.read_bytes(0, min(self.size, len(_LFS_PREFIX))) == _LFS_PREFIX:
            raise CheckpointError(f"{path}: is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")

    @property
    def identity(self) -> FileIdentity:
        assert self._identity is not None
        return self._identity

    @property
    def size(self) -> int:
        return self.identity.size

    def read_into(self, offset: int, target: NDArray[Any]) -> None:
        """Fill a C-contiguous array with the bytes at ``offset``. Safe to call from several threads at once.

        Raises:
            CheckpointError: the file ended early, changed since it was first opened, or cannot be read.
        """
        assert target.flags.c_contiguous
        view = target.reshape(-1).view(np.uint8).data
        fd = self._descriptor()
        while view:
            try:
                count = os.preadv(fd, [view], offset)
            except OSError as error:
                raise unreadable(self.path, error) from error
            if not count:
                raise CheckpointError(
                    f"{self.path}: ended at byte {offset} while being read, expected {len(view)} bytes more; "
                    "do not change the checkpoint during a conversion"
                )
            view, offset = view[count:], offset + count

    def read_bytes(self, offset: int, count: int) -> bytes:
        """Read exactly ``count`` bytes. Raises as :meth:`read_into`."""
        target = np.empty(count, np.uint8)
        self.read_into(offset, target)
        return target.tobytes()

    def close(self) -> None:
        """Give the descriptor back, once no read is under way; a later read opens the file again."""
        with self._lock:
            if self._release is not None:
                self._release()
                self._release = None

    def _descriptor(self) -> int:
        with self._lock:
            if self._release is None:
                try:
                    # O_NONBLOCK: opening a named pipe must not wait for a writer.
                    self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                    self._release = weakref.finalize(self, os.close, self._fd)
                    status = os.fstat(self._fd)
                except OSError as error:
                    raise unreadable(self.path, error) from error
                if not stat.S_ISREG(status.st_mode):
                    raise CheckpointError(f"{self.path}: is not a regular file")
                found = FileIdentity(self.path.absolute(), status.st_size, status.st_mtime_ns)
                if self._identity not in (None, found):
                    raise CheckpointError(
                        f"{self.path}: changed since the conversion began; run the same command again"
                    )
                self._identity = found
            return self._fd


def read_json_object(file: SourceFile, *, strict: bool = False) -> dict[str, Any]:
    """Read a file that holds one JSON object in UTF-8.

    Raises:
        CheckpointError: it is longer than ``JSON_LIMIT``, or as :func:`parse_json_object`.
    """
    if file.size > JSON_LIMIT:
        raise CheckpointError(f"{file.path}: is {file.size} bytes long, expected at most {JSON_LIMIT}")
    # Editors on Windows put a byte-order mark first.
    text = file.read_bytes(0, file.size).removeprefix(codecs.BOM_UTF8)
    is_json = text.lstrip().startswith((b"{", b"["))
    if not is_json and (what := described(text[:LOOKED_AT], file.size)):
        raise CheckpointError(f"{file.path}: {what}")
    return parse_json_object(text, str(file.path), strict=strict)


def parse_json_object(
    text: bytes, what: str, *, strict: bool = False, error: type[ConversionError] = CheckpointError
) -> dict[str, Any]:
    """Parse a stranger's JSON object.

    Args:
        text: as :func:`parse_json` takes it.
        what: what it is, for the message.
        strict: refuse what :func:`parse_json` then refuses.
        error: what is raised.

    Raises:
        error: as :func:`parse_json`, or it is not an object.
    """
    value = parse_json(text, what, strict=strict, error=error)
    if not isinstance(value, dict):
        raise error(f"{what}: holds {quoted(value)}, expected a JSON object; download it again")
    return value


def parse_json(text: bytes, what: str, *, strict: bool = False, error: type[ConversionError] = CheckpointError) -> Any:
    """Parse a stranger's JSON: the one place where a file's JSON is read.

    Args:
        text: UTF-8; unless it is strict, a byte-order mark may stand before it, as Windows' editors write it.
        what: what it is, for the message.
        strict: refuse NaN, infinity and a key given twice, of which Python otherwise keeps the last, as transformers
            does too.
        error: what is raised.

    Raises:
        error: not UTF-8, not JSON, or nested too deeply.
    """
    hooks: dict[str, Any] = {"object_pairs_hook": _unique_members, "parse_constant": _no_constant} if strict else {}
    try:
        value = json.loads(text.decode("utf-8" if strict else "utf-8-sig"), **hooks)
    except RecursionError as cause:
        raise error(f"{what}: is not valid JSON: nested too deeply; download it again") from cause
    except ValueError as cause:
        raise error(f"{what}: is not valid JSON: {cause}; download it again") from cause
    if not strict and _deeper_than(value, DEEPEST):
        raise error(f"{what}: is not valid JSON: nested too deeply; download it again")
    return value


def _deeper_than(value: Any, levels: int) -> bool:
    """Whether there are more levels of objects and lists; without recursion, as there may be many."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        items = (item.values() if isinstance(item, dict) else item for item in level)
        level = [inner for item in items for inner in item if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"{quoted(twice)} appears twice")
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{path}: cannot be read: {error.strerror or error}")


def quoted(value: object) -> str:
    """A stranger's value as it may appear in a message: printable, on one line, not endless."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} nested too deeply to be shown"
    return text if len(text) <= 120 else f"{text[:117]}..."
