"""A function in a process of its own.

llama.cpp ends the whole process (``GGML_ASSERT``) on some broken files, maps model files into memory and logs to
standard error. Run in a child, none of that reaches the conversion: a crash becomes an exception that says how the
process ended, and the parent's resident set stays its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from converter.runtime.failure import Cause, IsolatedFailure, lacks_memory
from converter.runtime.worker import Worker

__all__ = ["Cause", "IsolatedFailure", "Worker", "lacks_memory", "run_isolated"]


def run_isolated(
    task: str, *, progress: Callable[[Any], None] | None = None, timeout: float | None = None, **request: Any
) -> Any:
    """Call a function in a fresh Python process and return its answer.

    Args:
        task: ``package.module:function``, importable in the child. It reports while it works with ``yield``, where it
            is a generator function, or with :func:`converter.runtime.child.report`.
        progress: called in the calling thread with each report.
        timeout: seconds that the process gets from its start on; by default any number.
        request: keyword arguments, picklable.

    Returns:
        What the function returned.

    Raises:
        IsolatedFailure: the function raised, the process ended without an answer, or the time is over; the message is
            one line, and ``cause`` tells which.
    """
    with Worker() as worker:
        return worker.call(task, progress=progress, timeout=timeout, **request)
