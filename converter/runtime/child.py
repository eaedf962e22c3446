"""The child's side: calls come in through one connection, and reports and answers go out through it.

Messages, each one pickled object: ``(sys.path, modules to import)`` once; then for each call ``(task, request, grace,
number of descriptors)`` and the descriptors, answered by any number of ``("report", value)`` and one ``("answer",
value)`` or ``("raised", type, message, cause)``. Both ends are this program, run by the same user.
"""

from __future__ import annotations

import importlib
import inspect
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from queue import SimpleQueue
from typing import Any

from converter.runtime.failure import cause_of, exception_name

_INTERRUPTED = 128 + signal.SIGINT
_sending = threading.Lock()
_parent: Connection | None = None


def main() -> None:
    """Serve calls until the parent closes its end, or is no more."""
    global _parent  # noqa: PLW0603
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    _parent = Connection(int(sys.argv[1]))
    try:
        paths, modules = _parent.recv()
        sys.path += [path for path in paths if path not in sys.path]
        for module in modules:
            with suppress(Exception):  # the call that needs it meets the same, and can tell
                importlib.import_module(module)
        calls = _Calls(_parent)
        while True:
            serve(*calls.next())
            calls.done()
    except (KeyboardInterrupt, EOFError, ConnectionResetError):
        _exit(_INTERRUPTED)


def report(value: Any) -> None:
    """Tell the parent how far a call has come, from any thread. Outside of a child process nothing happens."""
    if _parent is not None:
        _send("report", value)


class _Calls:
    """Calls as they come in, received in a thread that notices when the parent is no more."""

    def __init__(self, parent: Connection) -> None:
        self._calls: SimpleQueue[tuple[str, dict[str, Any]]] = SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        threading.Thread(target=self._receive, args=(parent,), daemon=True).start()

    def next(self) -> tuple[str, dict[str, Any]]:
        return self._calls.get()

    def done(self) -> None:
        self._idle.set()

    def _receive(self, parent: Connection) -> None:
        grace = 0.0
        with suppress(EOFError, OSError):
            while True:
                task, request, grace, held = parent.recv()
                for _ in range(held):
                    recv_handle(parent)  # open until this process ends
                self._idle.clear()
                self._calls.put((task, request))
        if grace and not self._idle.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            self._idle.wait(grace)
        _exit(_INTERRUPTED)


def serve(task: str, request: dict[str, Any]) -> None:
    """Make one call and send its reports and its outcome."""
    try:
        module, function = task.split(":")
        result = getattr(importlib.import_module(module), function)(**request)
        if inspect.isgenerator(result):
            while True:
                try:
                    _send("report", next(result))
                except StopIteration as ended:
                    result = ended.value
                    break
        sys.stdout.flush()
        _send("answer", result)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        traceback.print_exc()
        sys.stdout.flush()
        _send("raised", exception_name(error), " ".join(str(error).split()), cause_of(error))


def _send(*message: Any) -> None:
    """Send a message. Raises KeyboardInterrupt where the parent is no more, as the thread that waits for calls will."""
    assert _parent is not None
    with _sending:
        try:
            _parent.send(message)
        except (BrokenPipeError, ConnectionResetError):
            raise KeyboardInterrupt from None


def _exit(status: int) -> None:
    """End at once: everything that matters is closed, and the parent waits for this."""
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
