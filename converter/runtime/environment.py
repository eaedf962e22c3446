"""Failures that say nothing about a file: a killed process, too little memory, a package that is missing or broken."""

from __future__ import annotations

import errno
import importlib
import signal
from typing import Any

from converter.errors import EnvironmentFailure
from converter.runtime.failure import IsolatedFailure, cause_of
from converter.runtime.memory import available_memory

#: What usually ends a process by a signal. An abort and an arithmetic error are missing: llama.cpp ends itself that way
#: over what is in a file (``GGML_ASSERT``, a division by a size of 0).
SIGNALS = {
    "SIGBUS": "a file that was cut short while it was read, or a disk that fails",
    "SIGHUP": "its terminal was closed",
    "SIGILL": "a package that was compiled for another processor, or an instruction that this virtual machine lacks",
    "SIGKILL": "usually the system's answer to too little memory",
    "SIGSEGV": "a defect of a package, or a damaged installation",
    "SIGSYS": "a sandbox that forbids a system call",
    "SIGTERM": "somebody ended it",
    "SIGXCPU": "its limit of processor time was reached",
    "SIGXFSZ": "its limit of a file's size was reached",
}

#: Where a package's name is not that of its module.
PACKAGES = {"bitsandbytes": "bitsandbytes accelerate", "gptqmodel": "gptqmodel", "llama_cpp": "llama-cpp-python"}

#: Characters of a library's message about memory that are passed on.
MAX_REASON = 160

#: Errors of the system that are about this machine.
_SYSTEM = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO)


def killed(by: signal.Signals) -> str | None:
    """Why a process that a signal ended says nothing about the file, in words; None where it may."""
    return f"was killed by {by.name} ({SIGNALS[by.name]})" if by.name in SIGNALS else None


def environment_failure(failure: IsolatedFailure) -> EnvironmentFailure | None:
    """What the end of a child process says about this machine; None where it may be about what the child was given."""
    words = killed(failure.signal) if failure.signal else None
    if words:
        return EnvironmentFailure(f"the process {words}")
    if failure.cause == "memory":
        return too_little_memory(failure.reason)
    # What is left of the signals is how llama.cpp ends itself over what is in a file.
    return EnvironmentFailure(f"the process {failure.how}") if failure.environmental and not failure.signal else None


def too_little_memory(message: str = "") -> EnvironmentFailure:
    """The failure where memory ran out.

    Args:
        message: the library's own words.
    """
    free = available_memory()
    found = f" ({free})" if free else ""
    said = " ".join(message.split())
    said = said if len(said) <= MAX_REASON else ""  # an essay on possible causes
    return EnvironmentFailure(f"there is too little memory{found}{f': {said}' if said else ''}")


def missing_package(module: str, error: BaseException) -> EnvironmentFailure:
    """The failure where a module cannot be imported.

    Args:
        module: that was wanted.
        error: what its import raised.
    """
    package = PACKAGES.get(module, module)
    if isinstance(error, ModuleNotFoundError) and (error.name or module).partition(".")[0] == module:
        return EnvironmentFailure(f"{module} is not installed; run pip install {package}")
    reason = " ".join(str(error).split()) or type(error).__name__
    return EnvironmentFailure(
        f"{module} cannot be imported ({reason}); reinstall it: pip install --force-reinstall {package}"
    )


def require(module: str) -> Any:
    """Import a package that a verification needs.

    Raises:
        EnvironmentFailure: it is missing or broken, or there is too little memory.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:  # a broken package raises whatever it meets
        if cause_of(error) == "memory":
            raise too_little_memory(str(error)) from error
        raise missing_package(module, error) from error


def environment_of(error: BaseException) -> EnvironmentFailure | None:
    """The failure that an exception of a library stands for; None where it may be about the file."""
    cause = cause_of(error)
    if cause == "memory":
        return too_little_memory(str(error))
    if cause == "package":
        module = (getattr(error, "name", None) or "").partition(".")[0]
        return missing_package(module, error) if module else EnvironmentFailure(" ".join(str(error).split()))
    if isinstance(error, OSError) and error.errno in _SYSTEM:
        return EnvironmentFailure(" ".join(str(error).split()))
    return None
