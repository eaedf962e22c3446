"""How a function in a child process failed, as a fact and not as words to be searched."""

from __future__ import annotations

import errno
import re
import signal
from collections.abc import Iterator
from typing import Literal

from converter.errors import ConversionError

Cause = Literal["raised", "signal", "memory", "package", "timeout", "exited"]
"""``raised``: the function raised an exception of its own, so its input is in question. The others say nothing about
the input: the process was killed by a signal, there was too little memory, a package is missing or broken, it took too
long, or it exited without an answer."""

#: What libraries write where they get no memory: C++, ggml, torch, LLVM, the dynamic linker, Python's threads.
_NO_MEMORY = re.compile(
    r"bad_alloc|MemoryError|out of memory|cannot allocate memory|can't allocate memory|insufficient memory"
    r"|not enough memory|failed to allocate|failed to reserve|unable to allocate|unable to mmap"
    r"|error while attempting to allocate|failed to map segment from shared object|can't start new thread",
    re.IGNORECASE,
)
#: What the dynamic linker and llama_cpp write where a shared library is missing or broken.
_BROKEN_LIBRARY = re.compile(
    r"cannot open shared object file|undefined symbol|invalid ELF header|wrong ELF class|file too short"
    r"|ELF load command|shared library|library not loaded|symbol not found|image not found",
    re.IGNORECASE,
)
_NO_PACKAGE = re.compile(r"\b(ModuleNotFoundError|ImportError): |No module named ")


class IsolatedFailure(ConversionError):
    """A child process raised an exception or ended without an answer.

    Attributes:
        cause: the kind of failure.
        how: what happened, without the function's name: ``was killed by SIGILL: …``, ``failed: ValueError: …``.
        exception: the exception's type, such as ``ValueError`` or ``torch.OutOfMemoryError``; empty without one.
        reason: the exception's message, or the last line that the process wrote; one line.
        signal: what killed the process, else None. ``SIGKILL`` has the cause ``memory``: the kernel sends it when
            memory runs out.
        log: what the process wrote to its standard output and error meanwhile.
    """

    def __init__(
        self,
        task: str,
        how: str,
        *,
        cause: Cause,
        exception: str = "",
        reason: str = "",
        signal: signal.Signals | None = None,
        log: str = "",
    ) -> None:
        super().__init__(f"{task} {how}")
        self.cause = cause
        self.how = how
        self.exception = exception
        self.reason = reason
        self.signal = signal
        self.log = log

    @property
    def environmental(self) -> bool:
        """Whether it says nothing about what the function was given."""
        return self.cause != "raised"


def lacks_memory(text: str) -> bool:
    """Whether a library's message, or the last lines of its log, say that it got no memory."""
    return _NO_MEMORY.search(text) is not None


def cause_of(error: BaseException) -> Cause:
    """The kind of an exception: ``memory``, ``package`` or ``raised``."""
    chain = list(_chain(error))
    if any(_is_memory(one) for one in chain):
        return "memory"
    return "package" if any(_is_package(one) for one in chain) else "raised"


def exception_name(error: BaseException) -> str:
    """The type's name as a traceback shows it."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def cause_of_end(code: int, log: str) -> Cause:
    """The kind of an end without an answer, from the exit status as :mod:`subprocess` gives it and the log."""
    tail = "\n".join(log.splitlines()[-40:])
    if code == -signal.SIGKILL or lacks_memory(tail):
        return "memory"
    if code < 0:
        return "signal"
    return "package" if _NO_PACKAGE.search(tail) or _BROKEN_LIBRARY.search(tail) else "exited"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and those that caused it. What was merely being handled when it was raised is no cause."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno in (errno.ENOMEM, errno.EAGAIN):
        return True
    # A message of the file's own may hold any words; these types are what libraries raise.
    return isinstance(error, RuntimeError | OSError | ImportError) and lacks_memory(str(error))


def _is_package(error: BaseException) -> bool:
    if isinstance(error, ImportError):
        return True
    return isinstance(error, OSError | RuntimeError) and _BROKEN_LIBRARY.search(str(error)) is not None
