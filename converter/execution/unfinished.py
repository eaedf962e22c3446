"""An output while it is being written: under another name, locked, and renamed only when it is complete."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from converter.errors import OutputError
from converter.execution.journal import Journal


class UnfinishedFile:
    """``<output>.part`` with its journal, held by one process at a time.

    A context manager: leaving it keeps the unfinished file for a later run, unless :meth:`finish`, :meth:`reject` or
    :meth:`discard` was called.

    Args:
        output: the final path, whose directory exists.
        digest: digest of the plan that is written.
        data_bytes: length of the plan's data section.
    """

    def __init__(self, output: Path, digest: str, data_bytes: int) -> None:
        self.output = output
        self.data_bytes = data_bytes
        self.path = output.with_name(f"{output.name}.part")
        self.journal = Journal(output.with_name(f"{output.name}.part.journal"), digest)
        self.descriptor = -1
        self.data_start = 0

    def __enter__(self) -> UnfinishedFile:
        try:
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self.descriptor)
            raise OutputError(f"{self.path}: another conversion is writing this file; wait for it to end") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.journal.close()
        os.close(self.descriptor)

    def begin(self, write_header: Callable[[Path], int]) -> bool:
        """Make the file ready for tiles: the one an earlier run left, or a new one.

        Args:
            write_header: writes the header to a path and returns the position of the data section.

        Returns:
            True where an earlier run's tiles are kept.

        Raises:
            OutputError: the disk is too full for the whole file.
        """
        status = os.fstat(self.descriptor)
        if status.st_size > self.data_bytes and self.journal.finished_tiles():
            self.check_space(self.data_bytes - 512 * status.st_blocks)
            self.data_start = status.st_size - self.data_bytes
            return True
        self.journal.remove()
        os.ftruncate(self.descriptor, 0)
        try:
            self.check_space(self.data_bytes)
        except OutputError:
            self.discard()
            raise
        try:
            self.data_start = write_header(self.path)
            os.ftruncate(self.descriptor, self.data_start + self.data_bytes)
            os.fsync(self.descriptor)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from error
        self.journal.start()
        return False

    def check_space(self, needed: int) -> None:
        """Refuse before the first byte what would fill the disk."""
        free = shutil.disk_usage(self.path.parent).free
        if free < needed:
            raise OutputError(
                f"{self.output}: {needed / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free on its disk; free some space "
                "or choose another --output"
            )

    def finish(self) -> None:
        """Give the complete file its final name."""
        os.fsync(self.descriptor)
        self._move(self.output)

    def reject(self) -> Path:
        """Keep a complete file that failed verification under ``<output>.rejected``, and return that path."""
        rejected = self.output.with_name(f"{self.output.name}.rejected")
        self._move(rejected)
        return rejected

    def discard(self) -> None:
        """Remove the file and its journal."""
        self.path.unlink(missing_ok=True)
        self.journal.remove()

    def _move(self, target: Path) -> None:
        self.path.replace(target)
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self.journal.remove()
