"""An output while it is being written: under another name, locked, and renamed only when it is complete."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from converter.errors import OutputError
from converter.execution.checksums import Span, around, checksum_at
from converter.execution.journal import Journal, Recorded
from converter.execution.unverified import Unverified
from converter.outputs import make_parents
from converter.plan import Plan, Positions


def write_failure(error: OSError, path: Path | None = None) -> OutputError:
    """An operating system's refusal to write, in words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError("the disk filled up while writing; free some space and run the same command to go on")
    what = "the output" if path is None else f"{path}:"
    return OutputError(f"{what} cannot be written: {error.strerror}; run the same command to go on")


class Unfinished:
    """``<output>.part`` with its journal, held by one process at a time: a file, or a directory of several.

    A context manager: leaving it keeps the unfinished output for a later run, unless :meth:`finish`, :meth:`reject` or
    :meth:`discard` was called.

    Args:
        output: the final path; its directory is made where it does not exist.
        plan: what is written.
        names: the files that the plan's tensors go to, where the output is not a single file.
        gathered: the output is a directory of these files; otherwise they end up beside each other in ``output``'s.

    Attributes:
        path: the unfinished file or directory.
        plan: what is written.
        descriptors: of the files that the plan's tensors go to, once :meth:`begin` has returned.
        positions: where the stored tensors lie in them.
    """

    def __init__(self, output: Path, plan: Plan, names: Sequence[str] = (), *, gathered: bool = False) -> None:
        self.output = output
        self.plan = plan
        self.names = tuple(names)
        self.gathered = gathered
        self.path = output.with_name(f"{output.name}.part")
        self.journal = Journal(output.with_name(f"{output.name}.part.journal"), plan.digest())
        self.unverified = Unverified(output)
        self.descriptors: list[int] = []
        self._recorded = Recorded([], (), {})
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

    @property
    def positions(self) -> Positions:
        return self._recorded.positions

    @property
    def recorded(self) -> Mapping[int, str]:
        """Checksums of the tiles that an earlier run wrote, by number."""
        return self._recorded.tiles

    def __enter__(self) -> Unfinished:
        make_parents(self.output)
        try:
            self.take_back()
            if self.names:
                self.path.mkdir(exist_ok=True)
                self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            else:
                self._lock = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from error
        if not self.names and not stat.S_ISREG(os.fstat(self._lock).st_mode):
            os.close(self._lock)
            raise OutputError(f"{self.path}: is not a regular file; remove it or choose another --output")
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

    def begin(
        self,
        write_headers: Callable[[Sequence[Path]], Positions],
        sealed: Callable[[Sequence[Path]], Sequence[Sequence[Span]]] = lambda paths: [() for _ in paths],
    ) -> bool:
        """Make the files ready for tiles: those that an earlier run left, or new ones.

        Args:
            write_headers: writes all but the tensors to the paths, gives each file its full length, and returns where
                the tensors lie.
            sealed: tells for each of these paths which runs of it are filled in once all tensors are written.

        Returns:
            True where an earlier run's tiles are kept, as far as they are intact.

        Raises:
            OutputError: the disk is too full for the whole output, or refuses.
        """
        nbytes = self.plan.data_bytes
        resumed = self._resumable()
        if resumed:
            self.check_space(nbytes - sum(512 * path.stat().st_blocks for path in self.files))
        else:
            self.journal.remove()
            self.clear()
            try:
                self.check_space(nbytes)
            except OutputError:
                self.discard()
                raise
        try:
            positions = self.positions if resumed else write_headers(self.files)
            for path in self.files:
                self.descriptors.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
                os.fsync(self.descriptors[-1])
            if not resumed:
                self._recorded = Recorded(positions, tuple(map(tuple, sealed(self.files))), {})
                self._recorded = replace(self._recorded, around=self._around())
                self.journal.start(self._recorded)
        except OSError as error:
            raise write_failure(error, self.path) from error
        return resumed

    def _resumable(self) -> bool:
        """Whether an earlier run's tiles may be kept: the journal is of this plan, and all but the tensors intact."""
        recorded = self.journal.read()
        if recorded is None or not recorded.tiles or not all(path.is_file() for path in self.files):
            return False
        self._recorded = recorded
        if changed := self.changed_around():
            logging.getLogger(__name__).warning(
                "%s: is not as it was written; the output is begun anew", self.path / changed[0]
            )
            return False
        return True

    def _around(self) -> dict[str, str]:
        """Checksums of all but the tensors, by the names of the files; the length of each file counts too."""
        numbers = {path: number for number, path in enumerate(self.files)}
        inside = sorted(path for path in self.path.rglob("*") if path.is_file()) if self.gathered else self.files
        found = {}
        for path in inside:
            nbytes, number = path.stat().st_size, numbers.get(path)
            spans = (
                [(0, nbytes)]
                if number is None
                else around(self.plan, self.positions, number, nbytes, self._recorded.sealed[number])
            )
            with path.open("rb") as file:
                found[str(path.relative_to(self.path))] = f"{nbytes}-{checksum_at(file.fileno(), spans)}"
        return found

    def changed_around(self) -> list[str]:
        """The files, by their names in the output, in which something around the tensors is not as it was written."""
        found = self._around()
        return [name for name, expected in self._recorded.around.items() if found.get(name) != expected]

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
        if not self.path.exists() and self.unverified.path.exists() and kept.read() is not None:
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
