"""llama.cpp in a child process, which serves all tests of this one: where it crashes, one test fails.

A function that is ``isolated`` is called in the child. Its arguments and its answer are pickled, so it is a function of
a module that the child can import: one beside this, not a test's own.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from converter.runtime import Worker

P = ParamSpec("P")
R = TypeVar("R")
WARNING, ERROR = 3, 4  # ggml_log_level
_worker: Worker | None = None


def isolated(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function run in the child.

    Raises:
        IsolatedFailure: it raised an exception or its process ended, killed by which signal; the next call starts
            another.
    """

    @functools.wraps(function)
    def call(*positional: P.args, **named: P.kwargs) -> R:
        global _worker  # noqa: PLW0603
        if _worker is None or not _worker.alive:
            _worker = Worker(imports=["llama_cpp", "numpy"])
        answer: R = _worker.call(
            f"{__name__}:perform",
            module=function.__module__, name=function.__name__, positional=positional, named=named,
        )  # fmt: skip
        return answer

    return call


def perform(module: str, name: str, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The child's side: the function itself."""
    import llama_cpp

    llama_cpp.llama_log_set(_log, None)
    function = getattr(importlib.import_module(module), name)
    return function.__wrapped__(*positional, **named)


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def _log(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    """Only what is wrong is worth the room that a log takes."""
    if level in (WARNING, ERROR):
        sys.stderr.write(text.decode("utf-8", "replace"))


@isolated
def process_number() -> int:
    return os.getpid()


@isolated
def crash(number: int) -> None:
    """End the child by a signal, as an instruction does that the processor cannot carry out."""
    os.kill(os.getpid(), number)
