"""SHA-256 of files, each read once: an unchanged file's digest is known by its path, size and modification time."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from converter.errors import ConversionError

#: Bytes read at a time; a cancelled hashing stops after these.
CHUNK = 1 << 20
#: Ends of names of files with weights, of which a directory may hold the same in several formats.
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".ot")
#: Ends of names that a conversion leaves in a directory, which are never part of a source.
MADE_HERE = (".gguf", ".part", ".journal", ".rejected", ".unverified", ".sqlite", ".sqlite-journal", ".lock")


class HashingError(ConversionError):
    """A file cannot be read, or changed while it was."""


class Cancelled(Exception):
    """Nobody waits for the digests any more."""


@dataclass(frozen=True)
class FileDigest:
    """A file as it was: its absolute path, size in bytes, modification time and SHA-256 in hexadecimal."""

    path: Path
    size: int
    mtime_ns: int
    sha256: str

    def at(self, path: Path) -> FileDigest:
        """The same file under the name that it is about to get; renaming changes neither size nor time."""
        return replace(self, path=path.absolute())

    def unchanged(self) -> bool:
        """Whether size and modification time are still these."""
        try:
            return identity_of(self.path) == (self.size, self.mtime_ns)
        except HashingError:
            return False


def identity_of(path: Path) -> tuple[int, int]:
    """Size in bytes and modification time in nanoseconds.

    Raises:
        HashingError: no such file.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise HashingError(f"{path}: cannot be read: {error.strerror}") from error
    return status.st_size, status.st_mtime_ns


def file_digest(path: Path, cancelled: threading.Event | None = None) -> FileDigest:
    """Read a whole file.

    Raises:
        HashingError: it cannot be read, or changed meanwhile.
        Cancelled: the event was set.
    """
    before, digest, buffer = identity_of(path), hashlib.sha256(), bytearray(CHUNK)
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                if cancelled is not None and cancelled.is_set():
                    raise Cancelled
                digest.update(memoryview(buffer)[:count])
    except OSError as error:
        raise HashingError(f"{path}: cannot be read: {error.strerror}") from error
    if identity_of(path) != before:
        raise HashingError(f"{path}: changed while it was being read")
    return FileDigest(path.absolute(), *before, digest.hexdigest())


class Hashing:
    """Digests of files, computed in threads while something else is done.

    A context manager: leaving it cancels what is still going on.

    Args:
        paths: the files.
        known: digests that hold already, by path; those files are not read.
        threads: files read at a time.
    """

    def __init__(self, paths: Iterable[Path], known: Mapping[Path, FileDigest], *, threads: int = 1) -> None:
        self._paths = list(dict.fromkeys(paths))
        self._cancelled = threading.Event()
        self._pool = ThreadPoolExecutor(threads, "hashing")
        self._digests = {path: self._pool.submit(self._digest, path, known.get(path)) for path in self._paths}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def _digest(self, path: Path, known: FileDigest | None) -> FileDigest:
        return known or file_digest(path, self._cancelled)

    def cancel(self) -> None:
        """Stop within one chunk."""
        self._cancelled.set()
        self._pool.shutdown()

    def digests(self) -> dict[Path, FileDigest]:
        """Wait for the digests of all the files.

        Raises:
            HashingError: a file cannot be read, or changed meanwhile.
            Cancelled: it was cancelled before.
        """
        return {path: digest.result() for path, digest in self._digests.items()}


def content_of(named: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over the names and SHA-256 of files, in the order of names: the same wherever they lie."""
    lines = sorted(f"{digest}  {name}\n" for name, digest in named)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def input_files(path: Path) -> tuple[Path, ...]:
    """The files that a source, a tokenizer or an adapter consists of: the file itself, or those of the directory.

    Hidden files, files as a conversion makes them, and weights that are not read because another set of them counts,
    are none of these.
    """
    from converter.checkpoints.files import Files
    from converter.checkpoints.shards import find_weights

    if not path.is_dir():
        return (path,)
    files = [
        entry
        for entry in sorted(path.iterdir())
        if entry.is_file() and not entry.name.startswith(".") and not entry.name.endswith(MADE_HERE)
    ]
    try:
        read = find_weights(Files.of(path, {})).names
    except ConversionError:
        return tuple(files)
    return tuple(file for file in files if file.name in read or not file.name.endswith(WEIGHTS))


def output_files(path: Path) -> tuple[Path, ...]:
    """The files of an output: the file itself, or all below the directory."""
    if not path.is_dir():
        return (path,)
    return tuple(Path(root, name) for root, _, names in sorted(os.walk(path)) for name in sorted(names))
