"""llama.cpp in a process of its own.

llama.cpp ends the whole process (``GGML_ASSERT``) on some broken files, maps model files into memory and logs to
standard error. Run in a child, none of that reaches the conversion: a crash becomes an exception with the last
lines of llama.cpp's log, and the parent's resident set stays its own.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from typing import Any

from converter.errors import ConversionError


class IsolatedFailure(ConversionError):
    """The child crashed or raised. ``log`` holds what it wrote to standard error."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


def run_isolated(task: str, **request: Any) -> Any:
    """Call a function in a fresh Python process and return its answer.

    Args:
        task: ``package.module:function``, importable in the child.
        request: keyword arguments, JSON-serialisable.

    Returns:
        What the function returned, through JSON.

    Raises:
        IsolatedFailure: the function raised, or the process was killed by a signal; the message is one line.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as log, tempfile.NamedTemporaryFile("r") as answer:
        child = subprocess.run(
            [sys.executable, "-m", "converter.runtime.child", task, answer.name],
            input=json.dumps(request), stdout=log, stderr=log, text=True, check=False,
        )  # fmt: skip
        log.seek(0)
        text = log.read()
        if child.returncode == 0:
            return json.load(answer)
    if child.returncode < 0:
        reason = f"{task} was killed by {signal.Signals(-child.returncode).name}"
    else:
        reason = f"{task} failed"
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no output")
    raise IsolatedFailure(f"{reason}: {last}", text)
