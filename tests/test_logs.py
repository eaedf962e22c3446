"""Logs: JSON that Python's own parser reads line by line, and lines for a person."""

from __future__ import annotations

import datetime
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import command_line
import pytest

from converter import Progress, Result
from converter.cli import logs
from converter.verification import Verification

SAMPLE = Path(__file__).parent / "fixtures" / "sample"
Lines = Callable[[], list[str]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """The lines on standard error since the last look; logging is as before afterwards."""
    root, events = logging.getLogger(), logging.getLogger("converter.events")
    before = (root.level, events.level, list(root.handlers))

    def look() -> list[str]:
        return capsys.readouterr().err.splitlines()

    yield look
    logging.captureWarnings(False)
    root.setLevel(before[0])
    events.setLevel(before[1])
    root.handlers[:] = before[2]


def parsed(lines: Lines) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines()]


RESULT = Result(
    output=Path("out.gguf"), method="q4_0", source_bytes=2000, output_bytes=600, weights=1000, bits_per_weight=4.5,
    tensor_types={}, tensor_shapes={}, seconds={"read": 1.0, "write": 2.0, "verify": 4.0}, warnings=("beware",),
    verification=Verification("full", passed=True, verdict="faithful", mean_kl=0.01),
)  # fmt: skip


def test_events_are_json_objects_a_line(lines: Lines) -> None:
    logs.configure_logs(json=True)
    logs.event("started", "two\nlines, “quoted”", model=Path("m"), job="a")
    (event,) = parsed(lines)
    moment = datetime.datetime.fromisoformat(event.pop("time"))
    assert moment.utcoffset() == datetime.timedelta(0)
    assert abs((datetime.datetime.now(datetime.UTC) - moment).total_seconds()) < 60
    assert event == {
        "level": "info", "event": "started", "message": "two\nlines, “quoted”", "model": "m", "job": "a"
    }  # fmt: skip


def test_a_result_as_events(lines: Lines) -> None:
    logs.configure_logs(json=True)
    logs.log_result(RESULT, job="a")
    warning, read, wrote, verified, finished = parsed(lines)
    assert (warning["event"], warning["level"], warning["message"]) == ("warning", "warning", "beware")
    assert (read["event"], read["source_bytes"], read["seconds"]) == ("read", 2000, 1.0)
    assert (wrote["event"], wrote["output"], wrote["output_bytes"], wrote["seconds"]) == ("wrote", "out.gguf", 600, 2.0)
    assert (verified["event"], verified["verify"], verified["passed"]) == ("verified", "full", True)
    assert (verified["mean_kl"], verified["seconds"]) == (0.01, 4.0)
    assert (finished["event"], finished["seconds"], finished["job"]) == ("finished", 7.0, "a")


def test_other_libraries_and_warnings_become_json_too(lines: Lines) -> None:
    logs.configure_logs(json=True)
    logging.getLogger("elsewhere").warning("hm\n%s", "well")
    warnings.warn("old", DeprecationWarning, stacklevel=1)
    try:
        raise ValueError("inside")
    except ValueError:
        logging.getLogger("elsewhere").exception("broke")
    first, second, third = parsed(lines)
    assert (first["event"], first["logger"], first["message"]) == ("log", "elsewhere", "hm\nwell")
    assert (second["logger"], "DeprecationWarning: old" in second["message"]) == ("py.warnings", True)
    assert third["traceback"].endswith("ValueError: inside")


def test_progress_is_told_at_each_stage_and_now_and_then(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 2.0, 7.0, 8.0])
    monkeypatch.setattr(logs.time, "monotonic", lambda: next(clock))
    logs.configure_logs(json=True)
    progress = logs.ProgressLog(job="a")
    for step in (
        Progress("read", item="model"),
        Progress("write", 1, 100, "x"),
        Progress("write", 2, 100, "x"),
        Progress("write", 50, 100, "y"),
        Progress("verify", item="loading"),
    ):
        progress.show(step)
    reading, writing, half, verifying = parsed(lines)
    assert (reading["event"], reading["item"]) == ("reading", "model")
    assert writing["event"] == "writing"
    assert (half["event"], half["done"], half["total"], half["item"]) == ("progress", 50, 100, "y")
    assert (verifying["event"], verifying["item"], verifying["job"]) == ("verifying", "loading", "a")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["convert: warning: beware", "convert: error: broken"]),
        ({"quiet": True}, ["convert: warning: beware", "convert: error: broken"]),
        ({"verbose": True}, ["convert: begun", "convert: warning: beware", "convert: error: broken"]),
        ({"unattended": True}, [r"\d\d:\d\d:\d\d begun", r".* warning: beware", r".* error: broken"]),
        ({"unattended": True, "quiet": True}, [r".* warning: beware", r".* error: broken"]),
    ],
    ids=str,
)
def test_lines_for_a_person(lines: Lines, options: dict[str, bool], expected: list[str]) -> None:
    logs.configure_logs(json=True)
    logs.configure_logs(**options)
    logs.event("started", "begun")
    logs.event("warning", "beware")
    logs.event("failed", "broken")
    found = lines()
    assert len(found) == len(expected)
    assert all(re.fullmatch(pattern, line) for pattern, line in zip(expected, found, strict=True)), found


def test_a_job_is_named(lines: Lines) -> None:
    logs.configure_logs()
    logs.event("failed", "broken", job="sample-q4_0.gguf")
    assert lines() == ["convert: sample-q4_0.gguf: error: broken"]


def test_a_conversion_for_machines(lines: Lines, tmp_path: Path) -> None:
    output = tmp_path / "out.gguf"
    arguments = ("--log-json", "--model", SAMPLE, "--method", "q4_0", "--output", output)
    outcome = command_line.convert(*arguments)
    events = [json.loads(line) for line in outcome.err.splitlines()]
    names = [event["event"] for event in events if event["event"] != "progress"]
    steps = ["verifying"] * names.count("verifying")
    assert names == ["started", "reading", "writing", *steps, "read", "wrote", "verified", "finished"]
    wrote = next(event for event in events if event["event"] == "wrote")
    assert (wrote["output"], wrote["output_bytes"]) == (str(output), output.stat().st_size)
    refused = command_line.convert(*arguments, "--no-catalogue")
    (*_, failed) = [json.loads(line) for line in refused.err.splitlines()]
    assert (refused.code, failed["event"], failed["error"], failed["exit_code"]) == (1, "failed", "OutputError", 1)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--method", "q4_0"], "UsageError"),
        (["--model", SAMPLE, "--method", "q4_0", "--thread", 2], "NoSuchOption"),
        (["batch", "missing.yaml"], "UsageError"),
    ],
)
def test_wrong_usage_for_machines(lines: Lines, arguments: list[object], error: str) -> None:
    outcome = command_line.convert("--log-json", *arguments)
    (failed,) = [json.loads(line) for line in outcome.err.splitlines()]
    assert (outcome.code, failed["event"], failed["error"], failed["exit_code"]) == (2, "failed", error, 2)


def test_an_interruption_for_machines(lines: Lines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("converter.pipeline.convert", interrupted)
    outcome = command_line.convert("--log-json", "--model", SAMPLE, "--method", "q4_0", "--output", tmp_path / "o.gguf")
    failed = json.loads(outcome.err.splitlines()[-1])
    assert (outcome.code, failed["event"], failed["error"], failed["exit_code"]) == (130, "failed", "Interrupted", 130)
