"""Answers of a child process, and its reports while it works; on functions of the standard library, too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from converter.runtime import Worker, run_isolated


def folders(root: Path) -> list[tuple[str, list[str], list[str]]]:
    """What ``os.walk`` yields."""
    (root / "one" / "two").mkdir(parents=True)
    return [(str(root), ["one"], []), (str(root / "one"), ["two"], []), (str(root / "one" / "two"), [], [])]


def test_a_generator_reports_in_order_and_answers_at_its_end(tmp_path: Path) -> None:
    expected, seen = folders(tmp_path), []
    assert run_isolated("os:walk", progress=seen.append, top=str(tmp_path)) is None
    assert seen == expected
    assert run_isolated("os:walk", top=str(tmp_path)) is None
    assert run_isolated("os.path:exists", progress=seen.append, path=str(tmp_path)) is True
    assert seen == expected


def test_reports_of_another_thread() -> None:
    seen: list[int] = []
    assert run_isolated("runtime.failing:reports_of_a_callback", progress=seen.append, count=100) == 100
    assert seen == list(range(100))


def test_an_exception_at_a_report_ends_the_child() -> None:
    seen = []

    def stop(report: Any) -> None:
        seen.append(report)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_isolated("os:walk", progress=stop, top="/")  # more folders than a pipe holds
    assert len(seen) == 1


def test_a_worker_serves_many_calls() -> None:
    with Worker(imports=["no_such_package_at_all", "json"]) as worker:
        numbers = {worker.call("runtime.failing:number_of_process") for _ in range(3)}
    (number,) = numbers
    assert number != os.getpid()
    assert not Path(f"/proc/{number}").exists()


def test_the_child_finds_the_same_modules() -> None:
    assert set(sys.path) <= set(run_isolated("runtime.failing:paths"))


#: A program that calls something long and says by which process.
PARENT = """
import sys
sys.path[:] = {path}
from converter.runtime import Worker
worker = Worker()
print(worker.call("runtime.failing:number_of_process"), flush=True)
worker.call("runtime.failing:sleep", seconds=600)
"""


def test_the_child_ends_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(path=sys.path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = Path(f"/proc/{int(parent.stdout.readline())}")
    assert child.exists()
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 30
    while child.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
