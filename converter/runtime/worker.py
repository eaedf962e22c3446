"""The parent's side of a child process that calls functions."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from types import TracebackType
from typing import IO, Any, Self

from converter.runtime.failure import IsolatedFailure, cause_of_end

#: Seconds beyond its grace that an interrupted process gets to end.
SLACK = 5.0
#: Bytes at the end of a log that are kept with a failure.
LOG = 1 << 20


@dataclass(frozen=True)
class Report:
    """How far a call has come."""

    value: Any


@dataclass(frozen=True)
class Answer:
    """What a call returned."""

    value: Any


class Worker:
    """A Python process that calls one function after the other. A context manager, which ends the process.

    The process has the parent's ``sys.path`` and a process group of its own: Ctrl-C in a terminal reaches the parent
    only, which decides. It ends when the parent does, however that came about.

    Args:
        imports: modules that it imports before the first call, so that they are there by then.

    Attributes:
        connection: ready to be read when :meth:`receive` has something to return; for ``connection.wait``.

    Raises:
        IsolatedFailure: no process can be started.
    """

    def __init__(self, imports: Sequence[str] = ()) -> None:
        self._task, self._busy, self._grace = "a process", False, 0.0
        self._log: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self._log_start = 0
        self.connection: Connection
        self.connection, theirs = Pipe()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "converter.runtime", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
                    pass_fds=(theirs.fileno(),), process_group=0,
                )  # fmt: skip
            except OSError as error:
                self.connection.close()
                self._log.close()
                short = error.errno in (errno.ENOMEM, errno.EAGAIN)
                reason = error.strerror or str(error)
                raise IsolatedFailure(
                    self._task, f"cannot be started: {reason}", cause="memory" if short else "package", reason=reason
                ) from error
        with suppress(OSError):  # it has ended already; why is told when it is asked for something
            self.connection.send((sys.path, list(imports)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def call(
        self,
        task: str,
        *,
        progress: Callable[[Any], None] | None = None,
        timeout: float | None = None,
        **request: Any,
    ) -> Any:
        """Call a function and wait for its answer; arguments and errors as of :func:`converter.runtime.run_isolated`.

        A process that raised an exception can be called again; one that ended, or ran out of time, cannot.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self.begin(task, **request)
        while True:
            message = self.receive(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if message is None:
                self._kill()
                raise self._failure(f"took longer than {timeout:g} seconds", cause="timeout")
            if isinstance(message, Answer):
                return message.value
            if progress is not None:
                progress(message.value)

    def begin(self, task: str, *, held: Sequence[int] = (), grace: float = 0.0, **request: Any) -> None:
        """Call a function without waiting for it.

        Args:
            task: ``package.module:function``.
            held: descriptors that the process holds open from now on.
            grace: seconds that the function gets to end in order, after a KeyboardInterrupt, when it is interrupted.
            request: keyword arguments, picklable.
        """
        self._task, self._busy, self._grace = task, True, grace
        with suppress(OSError):  # it has ended already; receive() tells why
            self.connection.send((task, request, grace, len(held)))
            for descriptor in held:
                send_handle(self.connection, descriptor, self._process.pid)

    def receive(self, timeout: float | None = None) -> Report | Answer | None:
        """The next message of the call that was begun; None where none comes within so many seconds.

        Raises:
            IsolatedFailure: the function raised, or the process ended without an answer.
        """
        try:
            if timeout is not None and not self.connection.poll(timeout):
                return None
            kind, *what = self.connection.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        if kind == "report":
            return Report(*what)
        self._busy = False
        if kind == "answer":
            answer = Answer(*what)
            self._log_start = self._log_end()
            return answer
        exception, reason, cause = what
        how = f"failed: {exception}: {reason}" if reason else f"failed: {exception}"
        failure = self._failure(how, cause=cause, exception=exception, reason=reason)
        self._log_start = self._log_end()
        raise failure

    def interrupt(self) -> None:
        """Let it end: in order where the call has some grace, at once where it has none."""
        self.connection.close()

    def close(self) -> None:
        """Interrupt it and wait for its end, no longer than its grace."""
        self.interrupt()
        if self._busy and self._grace:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self._grace + SLACK)
        self._kill()
        self._log.close()

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _ended(self) -> IsolatedFailure:
        """How the process has ended."""
        code = self._process.wait()
        self._busy = False
        log = self._text()
        cause = cause_of_end(code, log)
        if code >= 0:
            return self._failure(f"ended with {code}", cause=cause)
        try:
            killer = signal.Signals(-code)
        except ValueError:  # a realtime signal has no name
            return self._failure(f"was killed by signal {-code}", cause=cause)
        return self._failure(f"was killed by {killer.name}", cause=cause, signal=killer)

    def _failure(self, how: str, *, exception: str = "", reason: str = "", **facts: Any) -> IsolatedFailure:
        """A failure with its log; the log's last line is the reason where no exception gives one."""
        log = self._text()
        if not exception:
            reason = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "no output")
            how = f"{how}: {reason}"
        return IsolatedFailure(self._task, how, exception=exception, reason=reason, log=log, **facts)

    def _text(self) -> str:
        """What it has written since the last call, as far as that is kept. The file's offset is the child's."""
        end = self._log_end()
        start = max(self._log_start, end - LOG)
        return os.pread(self._log.fileno(), end - start, start).decode("utf-8", "replace")

    def _log_end(self) -> int:
        return os.fstat(self._log.fileno()).st_size
