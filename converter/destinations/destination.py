"""An output with a URL: written and verified on this machine first, then uploaded."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from converter.destinations.store import Progress, Store, Uploads
from converter.errors import OutputError
from converter.sources.address import local_path
from converter.sources.stores import filesystem, store_refusal

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.+")


@dataclass(frozen=True)
class Destination:
    """Where an output goes.

    Attributes:
        local: where to write it; for a URL that ends in a slash an existing directory, to put a named output in.
        url: where it goes from there; None if it stays.
    """

    local: Path
    url: str | None = None
    _overwrite: bool = field(default=False, repr=False)
    _folder: Path = field(default=Path(), repr=False)
    _store: Store | None = field(default=None, repr=False, compare=False)

    def deliver(self, outputs: Sequence[Path] = (), progress: Progress | None = None) -> str | None:
        """Upload what was written and remove it from this machine.

        Args:
            outputs: files, or directories with all that is in them; ``local`` by default.
            progress: called with each step.

        Returns:
            Where the first of them is now; None if it stays on this machine.

        Raises:
            OutputError: the upload failed or would replace something; the files are kept, and the line says where.
        """
        if self.url is None or self._store is None:
            return None
        written = list(outputs) or [self.local]
        base = self.url if self.local == self._folder else self.url.rpartition("/")[0] + "/"
        addresses = [base + path.relative_to(self._folder).as_posix() for path in written]
        files = [
            (file, base + file.relative_to(self._folder).as_posix())
            for path in written
            for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
            if file.is_file()
        ]
        try:
            if not self._overwrite:
                for address in addresses:
                    refuse_existing(self._store, address)
            self._store.put(files, progress or (lambda *_: None))
        except OutputError as error:
            raise OutputError(f"{error}; the converted output is kept as {written[0]}") from error
        shutil.rmtree(self._folder)
        return addresses[0]

    def release(self) -> None:
        """Remove the directory for the output where nothing was written, as after a refusal."""
        if self._store is not None:
            with contextlib.suppress(OSError):  # not empty: what is there can be gone on with
                self._folder.rmdir()


def destination(output: str | Path, *, overwrite: bool = False) -> Destination:
    """Say where to write an output, and refuse a place that will not take it before anything is written.

    A URL's output is written below the directory for temporary files (``TMPDIR``) first, always in the same place, so
    that an interrupted conversion can go on.

    Args:
        output: a path, a ``file://`` URL, or a URL of fsspec or of the Hub (``hf://organization/name/file.gguf``).
        overwrite: what is there may be replaced.

    Raises:
        OutputError: nothing can be written there, or something is there already.
        UsageError: a malformed URL.
    """
    url = str(output)
    if not _URL.fullmatch(url):
        return Destination(Path(output))
    if url.startswith("file://"):
        return Destination(local_path(url))
    if url.count("/") == 2:
        url += "/"  # a bucket
    store = store_of(url)
    store.check(url)
    if not overwrite and not url.endswith("/"):
        refuse_existing(store, url)
    folder = staging(url)
    local = folder if url.endswith("/") else folder / url.rpartition("/")[2]
    return Destination(local, url, overwrite, folder, store)


def store_of(url: str) -> Store:
    """What takes files at a URL."""
    if url.startswith("hf://"):
        from converter.destinations.hub import HubStore

        return HubStore(url)
    return FsspecStore(url)


def refuse_existing(store: Store, url: str) -> None:
    if store.holds(url):
        raise OutputError(f"{url}: exists already; pass --overwrite to replace it or choose another --output")


def staging(url: str) -> Path:
    """A directory of this user alone for what will go to a URL; the same one each time.

    Raises:
        OutputError: another user holds it, or it cannot be made.
    """
    folder = Path(tempfile.gettempdir()) / f"converter-{sha256(url.encode()).hexdigest()[:16]}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be used for {url}: {error.strerror}; set TMPDIR to another place"
        ) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise OutputError(f"{folder}: belongs to somebody else; set TMPDIR to a place of your own")
    return folder


class FsspecStore:
    """A store that fsspec opens.

    Args:
        url: an address in it.

    Raises:
        OutputError: its scheme is unknown or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self._store, _ = filesystem(url, OutputError)

    def check(self, url: str) -> None:
        """Write an empty file beside the target and remove it: only that proves the right to."""
        probe = self._path(f"{url}.probe")
        try:
            self._store.pipe_file(probe, b"")
            self._store.rm_file(probe)
        except Exception as error:  # each driver has errors of its own
            raise store_refusal(error, url, OutputError) from error

    def holds(self, url: str) -> bool:
        try:
            return bool(self._store.exists(self._path(url)))
        except Exception as error:  # each driver has errors of its own
            raise store_refusal(error, url, OutputError) from error

    def put(self, uploads: Uploads, tell: Progress) -> None:
        total = sum(path.stat().st_size for path, _ in uploads)
        done = 0
        for path, url in uploads:
            size = path.stat().st_size
            try:
                self._store.put_file(str(path), self._path(url), callback=_callback(tell, path.name, done, total))
                arrived = self._store.info(self._path(url))["size"]
            except Exception as error:  # each driver has errors of its own
                raise store_refusal(error, url, OutputError) from error
            if arrived != size:
                raise OutputError(f"{url}: {arrived} bytes arrived of {size}")
            done += size
            tell(path.name, done, total)

    def _path(self, url: str) -> str:
        path: str = self._store._strip_protocol(url)
        return path


def _callback(tell: Progress, item: str, done: int, total: int) -> Any:
    """What fsspec tells of a transfer, passed on."""
    from fsspec.callbacks import Callback  # type: ignore[import-untyped]

    return Callback(hooks={"tell": lambda _, value, **__: tell(item, done + (value or 0), total)})
