"""A crash of llama.cpp is one failed test: it says which signal, and the next call has another process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import llama_cpp_oracle
import pytest
from llama_cpp_process import crash, process_number

from converter.runtime import IsolatedFailure


def test_one_process_serves_all_calls() -> None:
    assert process_number() == process_number() != os.getpid()


def test_an_exception_leaves_the_process_running(tmp_path: Path) -> None:
    before = process_number()
    with pytest.raises(IsolatedFailure, match=r"AssertionError: llama\.cpp does not load .*missing\.gguf"):
        llama_cpp_oracle.logits(tmp_path / "missing.gguf", [1])
    assert process_number() == before


def test_a_crash_is_an_exception_and_the_next_call_has_another_process() -> None:
    before = process_number()
    with pytest.raises(IsolatedFailure, match="was killed by SIGILL"):
        crash(signal.SIGILL)
    assert process_number() not in (before, os.getpid())
