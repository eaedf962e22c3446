"""An output while it is being written: under another name, locked, and renamed only when it is complete."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from converter.errors import OutputError
from converter.execution.journal import Journal, Positions
from converter.execution.unverified import Unverified


class Unfinished:
    """``<output>.part`` with its journal, held by one process at a time: a file, or a directory of several.

    A context manager: leaving it keeps the unfinished output for a later run, unless :meth:`finish`, :meth:`reject` or
    :meth:`discard` was called.

    Args:
        output: the final path, whose directory exists.
        digest: digest of the plan that is written.
        names: the files that the plan's tensors go to, where the output is not a single file.
        gathered: the output is a directory of these files; otherwise they end up beside each other in ``output``'s.

    Attributes:
        path: the unfinished file or directory.
        descriptors: of the files that the plan's tensors go to, once :meth:`begin` has returned.
        positions: where the stored tensors lie in them.
    """

    def __init__(self, output: Path, digest: str, names: Sequence[str] = (), *, gathered: bool = False) -> None:
        self.output = output
        self.names = tuple(names)
        self.gathered = gathered
        self.path = output.with_name(f"{output.name}.part")
        self.journal = Journal(output.with_name(f"{output.name}.part.journal"), digest)
        self.unverified = Unverified(output)
        self.descriptors: list[int] = []
        self.positions: Positions = []
        self._lock = -1

    @property
    def files(self) -> list[Path]:
        """The unfinished files that the plan's tensors go to."""
        return [self.path / name for name in self.names] or [self.path]

    @property
    def outputs(self) -> list[Path]:
        """What will be there at the end: the file, the directory, or the files beside each other."""
        beside = [] if self.gathered else [self.output.with_name(name) for name in self.names]
        return beside or [self.output]

    def __enter__(self) -> Unfinished:
        try:
            self.take_back()
            if self.names:
                self.path.mkdir(exist_ok=True)
                self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            else:
                self._lock = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise OutputError(f"{self.path}: another conversion is writing this file; wait for it to end") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.journal.close()
        for descriptor in (*self.descriptors, self._lock):
            os.close(descriptor)
        self.descriptors = []

    def begin(self, nbytes: int, write_headers: Callable[[Sequence[Path]], Positions]) -> bool:
        """Make the files ready for tiles: those that an earlier run left, or new ones.

        Args:
            nbytes: bytes of all tensors.
            write_headers: writes all but the tensors to the paths, gives each file its full length, and returns where
                the tensors lie.

        Returns:
            True where an earlier run's tiles are kept.

        Raises:
            OutputError: the disk is too full for the whole output.
        """
        resumed = bool(self.journal.finished_tiles()) and all(path.is_file() for path in self.files)
        if resumed:
            self.check_space(nbytes - sum(512 * path.stat().st_blocks for path in self.files))
            self.positions = self.journal.positions()
        else:
            self.journal.remove()
            self.clear()
            try:
                self.check_space(nbytes)
            except OutputError:
                self.discard()
                raise
            try:
                self.positions = write_headers(self.files)
            except OSError as error:
                raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from error
        try:
            for path in self.files:
                self.descriptors.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
                os.fsync(self.descriptors[-1])
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from error
        if not resumed:
            self.journal.start(self.positions)
        return resumed

    def check_space(self, needed: int) -> None:
        """Refuse before the first byte what would fill the disk."""
        free = shutil.disk_usage(self.path.parent).free
        if free < needed:
            raise OutputError(
                f"{self.output}: {needed / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free on its disk; free some space "
                "or choose another --output"
            )

    def clear(self) -> None:
        """Forget what an earlier run wrote."""
        if not self.names:
            os.ftruncate(self._lock, 0)
            return
        for path in self.path.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def finish(self) -> None:
        """Give the complete output its final name."""
        for descriptor in self.descriptors:
            os.fsync(descriptor)
        if self.gathered or not self.names:
            self._move(self.output)
            return
        for name in reversed(self.names):  # the first, which readers open, comes last
            (self.path / name).replace(self.output.with_name(name))
        shutil.rmtree(self.path)
        self._settle()

    def reject(self) -> Path:
        """Keep a complete output that failed verification under ``<output>.rejected``, and return that path."""
        rejected = self.output.with_name(f"{self.output.name}.rejected")
        self._move(rejected)
        return rejected

    def set_aside(self) -> None:
        """Keep a complete output as ``<output>.unverified``, with its journal, so that nothing is written again."""
        self.journal.close()
        self.journal.path.replace(self.unverified.journal)
        self._move(self.unverified.path)

    def take_back(self) -> None:
        """Go on with an output of this very plan that was set aside, unless there is a newer unfinished one."""
        kept = Journal(self.unverified.journal, self.journal.digest)
        if not self.path.exists() and self.unverified.path.exists() and kept.finished_tiles():
            self.unverified.path.replace(self.path)
            kept.path.replace(self.journal.path)

    def discard(self) -> None:
        """Remove everything written and the journal."""
        if self.names:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self.path.unlink(missing_ok=True)
        self.journal.remove()

    def _move(self, target: Path) -> None:
        replaced = target.with_name(f".{target.name}.replaced")
        if target.is_dir() and not target.is_symlink():
            target.replace(replaced)  # a directory cannot take the place of one that is not empty
        self.path.replace(target)
        shutil.rmtree(replaced, ignore_errors=True)
        self._settle()

    def _settle(self) -> None:
        """Bring the names to the disk, and only then forget the journal."""
        directory = os.open(self.output.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self.journal.remove()
