"""Killed at any moment, the same command ends with the right bytes and never shows a wrong file."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoint_builder import write_model
from command_line import refusal

from converter import convert
from converter.errors import CheckpointError, OutputError

#: The command with tiles so small and flushes so frequent that a kill lands between them.
COMMAND = """
import converter.execution.executor as executor, converter.plan as plan
executor.FLUSH_SECONDS, plan.TILE_ELEMENTS = 0.01, 1 << 13
from converter.cli import main
main()
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("interrupted") / "model"
    return write_model(
        directory, "llama", dtype="bfloat16", hidden_size=1024, intermediate_size=2816, num_hidden_layers=3
    )


def start(model: Path, output: Path, *options: str) -> subprocess.Popen[str]:
    arguments = ["--model", str(model), "--method", "q5_1", "--output", str(output), "--verify", "none", *options]
    return subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], stderr=subprocess.PIPE, text=True)


def time_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> float:
    """The moment when something has happened, or the process has ended."""
    while not happened() and process.poll() is None:
        time.sleep(0.001)
    return time.monotonic()


@pytest.mark.slow
def test_killed_at_twenty_random_moments(model: Path, tmp_path: Path) -> None:
    expected = convert(model, "q5_1", tmp_path / "expected.gguf", verify="none").output.read_bytes()
    output, journal = tmp_path / "killed.gguf", tmp_path / "killed.gguf.part.journal"
    started = time.monotonic()
    process = start(model, output, "--quiet")
    writing = time_until(journal.exists, process) - started
    finished = time_until(output.exists, process) - started
    assert process.wait() == 0
    assert output.read_bytes() == expected
    moments, kept = random.Random(20), 0
    for _ in range(20):
        output.unlink(missing_ok=True)
        process = start(model, output, "--quiet")
        time.sleep(moments.uniform(0.9 * writing, finished))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not output.exists() or output.read_bytes() == expected, "a wrong file under the final name"
        kept += journal.exists()
    assert kept, "no kill landed while the file was being written"
    process = start(model, output, "--overwrite")
    messages = process.communicate()[1]
    assert process.returncode == 0, messages
    assert output.read_bytes() == expected
    assert not list(tmp_path.glob("killed.gguf.part*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_politely(model: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    output = tmp_path / "out.gguf"
    process = start(model, output, "--threads", "1", "--quiet")
    while not (tmp_path / "out.gguf.part.journal").exists():
        time.sleep(0.01)
    process.send_signal(number)
    messages = process.communicate()[1]
    assert (process.returncode, messages.strip()) == (code, "convert: interrupted; run the same command again to go on")
    assert not output.exists()
    assert (tmp_path / "out.gguf.part").exists()


def interrupt(model: Path, output: Path) -> None:
    """Leave an unfinished file that holds some tiles of a q8_0 conversion."""

    def stop(progress: object) -> None:
        if getattr(progress, "done", 0) > 10_000_000:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("converter.execution.executor.FLUSH_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            convert(model, "q8_0", output, verify="none", progress=stop)


def test_a_second_run_goes_on_and_reads_only_what_is_missing(model: Path, tmp_path: Path) -> None:
    expected = convert(model, "q8_0", tmp_path / "expected.gguf", verify="none").output.read_bytes()
    output = tmp_path / "out.gguf"
    interrupt(model, output)
    part = tmp_path / "out.gguf.part"
    finished = (tmp_path / "out.gguf.part.journal").read_text().split("\n", 1)[1].split()
    assert finished
    result = convert(model, "q8_0", output, verify="none")
    assert result.resumed
    assert output.read_bytes() == expected
    assert not part.exists()


@pytest.mark.parametrize("change", ["method", "input", "journal"])
def test_a_changed_plan_starts_over(model: Path, tmp_path: Path, change: str) -> None:
    output = tmp_path / "out.gguf"
    interrupt(model, output)
    method = "q8_0"
    if change == "method":
        method = "q4_0"
    elif change == "input":
        shard = model / "model.safetensors"
        stamp = shard.stat().st_mtime_ns
        os.utime(shard, ns=(stamp + 1, stamp + 1))
    else:
        (tmp_path / "out.gguf.part.journal").write_text("not a journal\n")
    result = convert(model, method, output, verify="none")
    assert not result.resumed
    assert output.read_bytes() == convert(model, method, tmp_path / "expected.gguf", verify="none").output.read_bytes()


def test_a_damaged_source_leaves_nothing_behind(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    model = write_model(tmp_path / "model", "llama")
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"][3] = np.nan
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight: 1 NaN"):
        convert(model, "q8_0", tmp_path / "out.gguf", verify="none")
    assert not list(tmp_path.glob("out.gguf*"))


def test_a_disk_that_fills_up_can_be_freed_and_the_work_goes_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = convert(model, "q8_0", tmp_path / "expected.gguf", verify="none").output.read_bytes()
    output, written = tmp_path / "out.gguf", os.pwrite
    room = iter(range(40))

    def fill(descriptor: int, content: bytes, position: int) -> int:
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(descriptor, content[: 1 << 18], position)

    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", fill)
        with pytest.raises(OutputError, match=r"^the disk filled up while writing; free some space and run the same"):
            convert(model, "q8_0", output, verify="none")
    assert not output.exists()
    assert convert(model, "q8_0", output, verify="none").resumed
    assert output.read_bytes() == expected


def test_a_file_that_fails_verification_is_kept_under_another_name(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    model = write_model(tmp_path / "model", "llama")
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"][:] = 3e38
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    message = refusal("--model", model, "--method", "f32", "--output", tmp_path / "out.gguf")
    assert message.endswith(f"; the file is kept as {tmp_path}/out.gguf.rejected")
    assert "finite" in message
    assert [path.name for path in sorted(tmp_path.glob("out*"))] == ["out.gguf.rejected"]
