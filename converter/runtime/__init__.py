"""llama.cpp in a process of its own.

llama.cpp ends the whole process (``GGML_ASSERT``) on some broken files, maps model files into memory and logs to
standard error. Run in a child, none of that reaches the conversion: a crash becomes an exception with the last
lines of llama.cpp's log, and the parent's resident set stays its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

from converter.errors import ConversionError


class IsolatedFailure(ConversionError):
    """The child crashed or raised. ``log`` holds what it wrote to standard error."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


def run_isolated(task: str, *, progress: Callable[[Any], None] | None = None, **request: Any) -> Any:
    """Call a function in a fresh Python process and return its answer.

    Args:
        task: ``package.module:function``, importable in the child. A generator function reports with ``yield`` while
            it works and answers with ``return``.
        progress: called in the calling thread with each report.
        request: keyword arguments, JSON-serialisable.

    Returns:
        What the function returned, through JSON.

    Raises:
        IsolatedFailure: the function raised, or the process was killed by a signal; the message is one line.
    """
    with tempfile.TemporaryFile("w+") as question, tempfile.TemporaryFile("w+", errors="replace") as log:
        json.dump(request, question)
        question.seek(0)
        reading, writing = os.pipe()
        with os.fdopen(reading, encoding="utf-8") as lines:
            try:
                child = subprocess.Popen(
                    [sys.executable, "-m", "converter.runtime.child", task, str(writing)],
                    stdin=question, stdout=log, stderr=log, pass_fds=(writing,),
                )  # fmt: skip
            finally:
                os.close(writing)
            answers = _listen(child, lines, progress)
        log.seek(0)
        text = log.read()
    if child.returncode == 0 and answers:
        return answers[0]
    if child.returncode < 0:
        reason = f"{task} was killed by {signal.Signals(-child.returncode).name}"
    else:
        reason = f"{task} failed"
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no output")
    raise IsolatedFailure(f"{reason}: {last}", text)


def _listen(child: subprocess.Popen[bytes], lines: Iterable[str], progress: Callable[[Any], None] | None) -> list[Any]:
    """Answers of a child, its reports passed on; it has ended when this returns or raises."""
    answers = []
    with child:
        try:
            for line in lines:
                if not line.endswith("\n"):
                    break  # killed while writing it
                message = json.loads(line)
                if "answer" in message:
                    answers.append(message["answer"])
                elif progress is not None:
                    progress(message["report"])
        except BaseException:
            child.kill()
            raise
    return answers
