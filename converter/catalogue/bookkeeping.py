"""The catalogue during a conversion: whatever is wrong with it, the conversion goes on with one warning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from converter.catalogue.catalogue import Catalogue
from converter.catalogue.database import CatalogueError
from converter.catalogue.digests import Cancelled, FileDigest, Hashing, HashingError
from converter.catalogue.record import Facts, Record
from converter.catalogue.request_key import RequestKey


class Bookkeeping:
    """A catalogue that never spoils a conversion. A context manager, for one thread.

    After the first trouble it warns once and does nothing any more.

    Args:
        path: the catalogue's file; None records nothing.
        warn: called with one sentence.
    """

    def __init__(self, path: Path | None, warn: Callable[[str], None]) -> None:
        self._path = path
        self._warn = warn
        self._catalogue: Catalogue | None = None

    def _open(self, *, make: bool) -> Catalogue | None:
        """The catalogue; None where there is none and none is to be made."""
        if self._catalogue is None and self._path is not None and (make or self._path.exists()):
            self._catalogue = Catalogue(self._path)
        return self._catalogue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._catalogue is not None:
            self._catalogue.close()
            self._catalogue = None

    @contextmanager
    def _unspoilt(self) -> Iterator[None]:
        try:
            yield
        except (CatalogueError, HashingError) as error:
            self.close()
            self._path = None
            self._warn(f"this conversion is not in the catalogue: {error}")

    def knows(self, output: Path) -> bool:
        """Whether an output of this path was recorded."""
        with self._unspoilt():
            if catalogue := self._open(make=False):
                return catalogue.get(output) is not None
        return False

    def answer(self, key: RequestKey) -> Record | None:
        """The result of an identical request, where it is still there; None without one."""
        with self._unspoilt():
            if catalogue := self._open(make=False):
                return catalogue.find(key)
        return None

    def hashing(self, paths: Iterable[Path], *, threads: int = 1) -> Hashing:
        """Begin to hash files in threads: a source's, or an output's complete ones under the names they have now."""
        with self._unspoilt():
            if self._path is not None:
                wanted = list(paths)
                catalogue = self._open(make=False)
                return Hashing(wanted, catalogue.known(wanted) if catalogue else {}, threads=threads)
        return Hashing((), {})

    def verified(self, output: Path, verification: Mapping[str, Any], renamed: Mapping[Path, Path]) -> None:
        """Remember that an output which lacked a verdict has one now.

        Args:
            output: the path that was asked for.
            verification: fields of the verification.
            renamed: the final path of each file, or of the directory of all files, by the one that it had.
        """
        with self._unspoilt():
            catalogue = self._open(make=False)
            record = None if catalogue is None else catalogue.get(output)
            if catalogue is not None and record is not None:
                catalogue.verified(record, verification, renamed)

    def forget(self, output: Path) -> None:
        """Remove the result of this output, where there is one."""
        with self._unspoilt():
            catalogue = self._open(make=False)
            record = None if catalogue is None else catalogue.get(output)
            if catalogue is not None and record is not None:
                catalogue.forget([record])

    def record(self, key: RequestKey, made: Facts, hashings: Sequence[Hashing], outputs: Mapping[Path, Path]) -> None:
        """Remember a result; to be called just before the output gets its name.

        Args:
            key: the request.
            made: what was made, its files under their final names.
            hashings: what :meth:`hashing` returned for the source and for the output; they are waited for.
            outputs: the final path of each of the output's files by the one that was hashed.
        """
        with self._unspoilt():
            catalogue = self._open(make=True)
            if catalogue is None:
                return
            digests: dict[Path, FileDigest] = {}
            try:
                for hashing in hashings:
                    digests |= hashing.digests()
            except Cancelled:
                return
            catalogue.remember(digests[path] for path in key.source.files)
            catalogue.record(key, made, [digests[now].at(final) for now, final in outputs.items()])
