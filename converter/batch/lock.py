"""One batch at a time in a directory of outputs."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from converter.errors import OutputError

#: Seconds that the children of a batch which was killed get to notice it.
GRACE = 15.0


class BatchLock:
    """``.batch.lock`` in the directory of the outputs, held until the batch and its child processes have ended.

    A context manager. Children inherit ``descriptor``, so the lock outlives a batch that was killed while one of them
    may still be writing.

    Args:
        directory: exists.
        file: the batch's file, told to whom the lock refuses.

    Raises:
        OutputError: another batch holds it, since when and by which process; or it cannot be written.
    """

    def __init__(self, directory: Path, file: Path) -> None:
        self.path = directory / ".batch.lock"
        self._holder = {
            "process": os.getpid(),
            "file": str(file.absolute()),
            "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        self.descriptor = -1

    def __enter__(self) -> Self:
        deadline = time.monotonic() + GRACE
        while not self._take():
            other = self._other()
            if alive(other.get("process")) or time.monotonic() > deadline:
                raise OutputError(
                    f"{self.path.parent}: the batch {other.get('file', 'of another process')} writes here (process "
                    f"{other.get('process', 'unknown')}, since {other.get('since', 'unknown')}); wait for it to end"
                )
            time.sleep(0.05)
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, json.dumps(self._holder).encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()
        os.close(self.descriptor)

    def _take(self) -> bool:
        """Whether the lock is ours now, and still the file of that name: its last holder removes it."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), self.path.stat()):
                self.descriptor = descriptor
                return True
        except OSError:
            pass
        os.close(descriptor)
        return False

    def _other(self) -> dict[str, Any]:
        """Who holds it, as far as the file tells."""
        try:
            found = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def alive(process: object) -> bool:
    """Whether a process of this machine has that number."""
    if not isinstance(process, int):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
