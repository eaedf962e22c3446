"""A batch that is killed, interrupted, or loses a process: nothing is lost, nothing is done twice."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from batch_files import catalogue, rows, write
from checkpoint_builder import write_model

#: Loaded by every Python that is started here: tiles so small and flushes so frequent that a kill lands between them.
SMALL_TILES = """
import converter.execution.executor as executor, converter.plan as plan
executor.FLUSH_SECONDS, plan.TILE_ELEMENTS = 0.01, 1 << 11
"""
#: Loaded in the same way: the process that converts the first model is killed.
DYING = """
import os, converter.pipeline as pipeline
convert_together = pipeline.convert_together
def die(requests, **further):
    if str(requests[0].model).endswith("/one"):
        os.kill(os.getpid(), 9)
    return convert_together(requests, **further)
pipeline.convert_together = die
"""
#: Loaded in the same way: no process that converts ever starts.
STILLBORN = """
import os, sys
if "converter.runtime" in sys.orig_argv:
    os.write(2, b"no memory\\n")
    os._exit(3)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("models")
    return [str(write_model(directory / name, "llama", dtype="bfloat16")) for name in ("one", "two")]


@pytest.fixture
def start(here: Path, models: list[str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a batch of two models by three methods with tiny tiles; what still runs at the end is killed."""
    (here / "tiny").mkdir()
    (here / "tiny" / "sitecustomize.py").write_text(SMALL_TILES)
    file = write(models=models, methods=["q4_0", "q5_1", "q8_0"], defaults={"verify": "none"})
    processes = []

    def run(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "converter", "batch", str(file), "--jobs", "2", "--threads", "2", *options]
        environment = {**os.environ, "PYTHONPATH": f"{here / 'tiny'}:{os.environ.get('PYTHONPATH', '')}"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes.append(subprocess.Popen(command, env=environment, text=True, **pipes))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def children_of(process: subprocess.Popen[str]) -> list[int]:
    """Processes that a process has started and that still run."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in listed.read_text().split()] if listed.exists() else []


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def writing() -> list[Path]:
    return list(Path("out").glob("*.part*"))


def finished() -> list[Path]:
    return list(Path("out").glob("*.gguf"))


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed(start: Callable[..., subprocess.Popen[str]]) -> None:
    whole = start()
    messages = whole.communicate()[1]
    assert whole.returncode == 0, messages
    expected = {path.name: path.read_bytes() for path in finished()}
    assert len(expected) == 6
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in expected.items()}
    for path in Path("out").iterdir():
        path.unlink()
    moments, interrupted, earlier = random.Random(5), 0, 0
    for number in range(4):
        process = start("--resume")
        until(lambda: process.poll() is not None or writing())  # noqa: B023
        if number % 2:  # one more file has its name
            there = len(finished())
            until(lambda: process.poll() is not None or len(finished()) > there)  # noqa: B023
        time.sleep(moments.uniform(0, 0.05))
        children = children_of(process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))  # noqa: B023
        interrupted += bool(writing())
        for path in finished():
            assert path.read_bytes() == expected[path.name], "a wrong file under a final name"
        done = {path.name: path.stat().st_mtime_ns for path in finished()}
        known = catalogue() if Path("out/catalogue.sqlite").exists() else {}
        assert set(done) <= set(known), "a file with its final name that the catalogue does not know"
        process = start("--resume", "--log-json")
        messages = process.communicate()[1]
        assert process.returncode == 0, messages
        events = [json.loads(line) for line in messages.splitlines()]
        assert {event["job"] for event in events if event["event"] == "kept"} == set(done)
        assert {event["job"] for event in events if event["event"] == "finished"} == set(expected) - set(done)
        assert {path.name: path.read_bytes() for path in finished()} == expected
        assert not writing()
        after = catalogue()
        assert {name: record[-1] for name, record in after.items()} == digests
        assert all(after[name] == known[name] for name in done), "recorded twice"
        assert all(Path("out", name).stat().st_mtime_ns == stamp for name, stamp in done.items()), "written twice"
        earlier += len(done)
        for name in moments.sample(sorted(expected), 4):
            Path("out", name).unlink()
    assert interrupted, "no kill landed while a file was being written"
    assert earlier


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_politely(start: Callable[..., subprocess.Popen[str]], number: signal.Signals, code: int) -> None:
    process = start()
    until(writing)
    children = children_of(process)
    assert children
    process.send_signal(number)
    output, messages = process.communicate()
    assert (process.returncode, messages.splitlines()[-1:]) == (
        code, ["convert: interrupted; run the same command again to go on"]
    )  # fmt: skip
    assert {" ".join(row[1:]) for row in rows(output)} >= {"not done"}
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
    assert writing()
    process = start("--resume")
    messages = process.communicate()[1]
    assert process.returncode == 0, messages
    assert not writing()


def test_a_process_that_dies_fails_its_jobs_only(here: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    (here / "tiny" / "sitecustomize.py").write_text(DYING)
    process = start()
    output, messages = process.communicate()
    assert process.returncode == 1, messages
    assert output.count("the process that converted it was killed by SIGKILL") == 3
    assert [row[:2] for row in rows(output)[3:]] == [[f"two-{name}.gguf", "done"] for name in ("q4_0", "q5_1", "q8_0")]


def test_processes_that_do_not_start(here: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    (here / "tiny" / "sitecustomize.py").write_text(STILLBORN)
    process = start()
    output, messages = process.communicate()
    assert process.returncode == 1, messages
    assert output.count("the process that converted it ended with 3: no memory") == 6
