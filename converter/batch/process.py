"""The parent's side of a process that converts one source, started before it is known which."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converter.request import Request

#: Seconds that a process gets to end when the batch is interrupted.
GRACE = 15.0


class ChildProcess:
    """A Python process, which imports what a conversion takes until it is told what to convert.

    Attributes:
        connection: messages come in by it.
    """

    def __init__(self) -> None:
        self._begun = False
        self._log: IO[str] = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.connection: Connection
        self.connection, theirs = Pipe()
        with theirs:
            # A group of its own: Ctrl-C in the terminal reaches this process only, which then ends the child.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "converter.batch.child", str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
                pass_fds=(theirs.fileno(),), process_group=0,
            )  # fmt: skip

    def begin(self, requests: Sequence[Request], held: Sequence[int]) -> None:
        """Let it convert.

        Args:
            requests: of one source.
            held: descriptors that it holds open from now on.
        """
        self._begun = True
        with suppress(OSError):  # it has ended already; what it leaves behind is told later
            self.connection.send((requests, len(held)))
            for descriptor in held:
                send_handle(self.connection, descriptor, self._process.pid)

    def receive(self) -> tuple[Any, ...] | None:
        """The next message; None once it has ended."""
        try:
            message: tuple[Any, ...] = self.connection.recv()
        except (EOFError, OSError):
            self._process.wait()
            return None
        return message

    def end_in_words(self) -> str:
        """How it has ended, with the last line that it wrote."""
        code = self._process.returncode
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        self._log.seek(0)
        last = next((line.strip() for line in reversed(self._log.read().splitlines()) if line.strip()), "no output")
        return f"ended with {code}: {last}"

    def interrupt(self) -> None:
        """Let it leave its unfinished outputs in order."""
        self.connection.close()

    def close(self) -> None:
        """Interrupt it and wait for its end, not for ever."""
        self.interrupt()
        if not self._begun:
            self._process.kill()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
