"""Reports of a child process while it works, on functions of the standard library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from converter.runtime import IsolatedFailure, run_isolated


def folders(root: Path) -> list[list[Any]]:
    """What ``os.walk`` yields, as JSON knows it."""
    (root / "one" / "two").mkdir(parents=True)
    return [[str(root), ["one"], []], [str(root / "one"), ["two"], []], [str(root / "one" / "two"), [], []]]


def test_a_generator_reports_in_order_and_answers_at_its_end(tmp_path: Path) -> None:
    expected, seen = folders(tmp_path), []
    assert run_isolated("os:walk", progress=seen.append, top=str(tmp_path)) is None
    assert seen == expected
    assert run_isolated("os:walk", top=str(tmp_path)) is None
    assert run_isolated("os.path:exists", progress=seen.append, path=str(tmp_path)) is True
    assert seen == expected


def test_an_exception_at_a_report_ends_the_child(tmp_path: Path) -> None:
    seen = []

    def stop(report: list[Any]) -> None:
        seen.append(report)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_isolated("os:walk", progress=stop, top="/")  # more folders than a pipe holds
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("task", "request_", "reason"),
    [
        ("os:abort", {}, "os:abort was killed by SIGABRT: no output"),
        ("os:_exit", {"status": 0}, "os:_exit failed: no output"),
        ("os:listdir", {"path": "/no/such"}, "FileNotFoundError: [Errno 2] No such file or directory: '/no/such'"),
    ],
)
def test_a_child_without_an_answer(task: str, request_: dict[str, Any], reason: str) -> None:
    with pytest.raises(IsolatedFailure) as failure:
        run_isolated(task, **request_)
    assert str(failure.value).endswith(reason)
