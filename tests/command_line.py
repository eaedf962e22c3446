"""The ``convert`` command in this process: arguments in, exit code and both streams out."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
from dataclasses import dataclass
from unittest import mock

from converter.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def convert(*arguments: object) -> Outcome:
    """Run ``convert ARGUMENTS`` as a shell would."""
    out, err = io.StringIO(), io.StringIO()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with (
            mock.patch.object(sys, "argv", ["convert", *map(str, arguments)]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                main()
            except SystemExit as ended:
                code = ended.code
    finally:
        signal.signal(signal.SIGTERM, before)
    assert isinstance(code, int)
    return Outcome(code, out.getvalue(), err.getvalue())


def refusal(*arguments: object, code: int = 1) -> str:
    """The one line that a refused run prints, without its prefix."""
    outcome = convert("--quiet", *arguments)
    assert outcome.code == code, outcome
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert len(lines) == 1, lines
    return lines[0].removeprefix("convert: error: ")
