"""Bytes that change on the disk or in memory, while an output is being written, never end up in it unnoticed."""

from __future__ import annotations

import errno
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoint_builder import write_model
from gguf import GGUFReader

from converter import convert
from converter.errors import OutputError
from converter.execution.executor import Job
from converter.plan import Tile

#: What is asked for, by a name.
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "gguf": ("q5_1", {}),
    "parts": ("q5_1", {"split_max_size": 200_000}),
    "safetensors": ("q4_0", {"output_format": "safetensors", "split_max_size": 200_000}),
    "pytorch": ("q8_0", {"output_format": "pytorch"}),
}
TILE_ELEMENTS = 1 << 13
NAMES = {"gguf": "out.gguf", "parts": "out.gguf", "safetensors": "out", "pytorch": "out"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("flipped") / "model", "llama", dtype="bfloat16")


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Tiles so small and flushes so frequent that an interruption lands between them; the disk is not waited for."""
    caplog.set_level(logging.WARNING, "converter.execution")
    monkeypatch.setattr("os.fdatasync", lambda descriptor: None)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr("converter.plan.TILE_ELEMENTS", TILE_ELEMENTS)
    monkeypatch.setattr("converter.execution.executor.FLUSH_SECONDS", 0.0)


def run(model: Path, kind: str, folder: Path, progress: Callable[[Any], None] | None = None) -> Any:
    method, choices = FORMATS[kind]
    folder.mkdir(exist_ok=True)
    return convert(model, method, folder / NAMES[kind], verify="none", catalogue="", progress=progress, **choices)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, bytes]]:
    made: dict[str, dict[str, bytes]] = {}

    def of(kind: str) -> dict[str, bytes]:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            run(model, kind, folder)
            made[kind] = contents(folder)
        return made[kind]

    return of


def interrupted(model: Path, kind: str, folder: Path, share: float = 0.6) -> list[Path]:
    """Stop a run once so much of it is written; the files it leaves, without the journal."""

    def stop(progress: Any) -> None:
        if progress.stage == "write" and progress.done > share * progress.total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(model, kind, folder, stop)
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".journal"]


def flip(path: Path, position: int, bit: int = 3) -> None:
    with path.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, position)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), position)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_bit_anywhere_between_two_runs(
    model: Path, kind: str, undisturbed: Callable[[str], dict[str, bytes]], tmp_path: Path
) -> None:
    """In tensors, headers, the index, the tokenizer's files: whatever is not as it was written is written anew."""
    chance = random.Random(7)
    for number in range({"gguf": 4, "pytorch": 1}.get(kind, 2)):
        folder = tmp_path / str(number)
        files = interrupted(model, kind, folder)
        if kind != "gguf":
            assert len(files) > 2
        for path in files:
            flip(path, chance.randrange(path.stat().st_size), chance.randrange(8))
        run(model, kind, folder)
        assert contents(folder) == undisturbed(kind)


@pytest.mark.parametrize("place", ["first tile", "header", "padding"])
def test_what_changed_is_said(
    model: Path,
    place: str,
    undisturbed: Callable[[str], dict[str, bytes]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (part,) = interrupted(model, "gguf", tmp_path)
    first = GGUFReader(part).tensors[0]
    begin = int(first.data_offset)
    flip(part, {"first tile": begin, "header": 40, "padding": begin - 1}[place])
    assert run(model, "gguf", tmp_path).resumed is (place == "first tile")
    assert contents(tmp_path) == undisturbed("gguf")
    expected = {
        "first tile": f"{part}: 1 piece of {first.name} changed on the disk since the last run; written anew",
    }.get(place, f"{part}: is not as it was written; the output is begun anew")
    assert caplog.messages == [expected]


def test_only_what_is_missing_or_changed_is_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (part,) = interrupted(model, "gguf", tmp_path)
    lines = Path(f"{part}.journal").read_text().splitlines()[1:]
    finished = {int(pair.split(":")[0]) for line in lines for pair in line.split()[1:]}
    assert len(finished) > 20
    written: list[Tile] = []
    write = Job.write

    def counting(job: Job, tile: Tile, *arguments: Any) -> str:
        every.update({one: number for number, one in enumerate(job.plan.tiles())})
        written.append(tile)
        return write(job, tile, *arguments)

    every: dict[Tile, int] = {}
    monkeypatch.setattr(Job, "write", counting)
    flip(part, int(GGUFReader(part).tensors[0].data_offset))
    assert run(model, "gguf", tmp_path).resumed
    assert sorted(every[tile] for tile in written) == sorted({0, *every.values()} - (finished - {0}))


@pytest.mark.parametrize("line", [0, 1, -2, -1])
def test_a_bit_in_the_journal(
    model: Path,
    line: int,
    undisturbed: Callable[[str], dict[str, bytes]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In any place of a line; a damaged line costs its tiles only, the first one all of them."""
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        interrupted(model, "gguf", folder)
        journal = folder / "out.gguf.part.journal"
        lines = journal.read_bytes().splitlines(keepends=True)
        begin = sum(map(len, lines[: line % len(lines)]))
        flip(journal, begin + len(lines[line]) * attempt // 3, attempt)
        assert run(model, "gguf", folder).resumed is (line != 0)
        assert contents(folder) == undisturbed("gguf")
    said = {message.removeprefix(str(tmp_path))[2:] for message in caplog.messages}
    assert said <= {"/out.gguf.part.journal: is damaged; the output is begun anew"}
    assert bool(said) is (line == 0)


def test_a_journal_of_an_earlier_version(
    model: Path,
    undisturbed: Callable[[str], dict[str, bytes]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    interrupted(model, "gguf", tmp_path)
    journal = tmp_path / "out.gguf.part.journal"
    journal.write_text('{"plan": "0123", "positions": [[1024]]}\n0 1 2 3\n')
    assert not run(model, "gguf", tmp_path).resumed
    assert contents(tmp_path) == undisturbed("gguf")
    assert caplog.messages == [
        f"{journal}: was begun by an earlier version, which kept no checksums of what it wrote; the output is begun "
        "anew"
    ]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_bit_between_the_last_tile_and_the_end(
    model: Path, kind: str, undisturbed: Callable[[str], dict[str, bytes]], tmp_path: Path
) -> None:
    def flip_at_the_end(progress: Any) -> None:
        if progress.stage == "write" and progress.done == progress.total:
            files = [path for path in sorted(tmp_path.rglob("*")) if path.is_file() and path.suffix != ".journal"]
            largest = max(files, key=lambda path: path.stat().st_size)
            flip(largest, largest.stat().st_size // 2)

    with pytest.raises(OutputError) as refused:
        run(model, kind, tmp_path, flip_at_the_end)
    message = str(refused.value)
    assert message.startswith(
        f"{tmp_path / NAMES[kind]}.part: the disk or the memory returned other bytes than were written, in 1 piece of "
    )
    assert message.endswith("; run the same command again to write them anew; if it happens again, test this machine's "
                            "memory and disk")  # fmt: skip
    assert not (tmp_path / NAMES[kind]).exists()
    assert run(model, kind, tmp_path).resumed
    assert contents(tmp_path) == undisturbed(kind)


def test_a_bit_in_the_header_at_the_end(
    model: Path, undisturbed: Callable[[str], dict[str, bytes]], tmp_path: Path
) -> None:
    def flip_at_the_end(progress: Any) -> None:
        if progress.stage == "write" and progress.done == progress.total:
            flip(tmp_path / "out.gguf.part", 100)

    with pytest.raises(OutputError, match=r"in what is around the tensors of .*out\.gguf\.part; run"):
        run(model, "gguf", tmp_path, flip_at_the_end)
    assert not run(model, "gguf", tmp_path).resumed
    assert contents(tmp_path) == undisturbed("gguf")


#: The command, with tiles so small and flushes so frequent that a kill lands between them. It says when it begins to
#: read the output back, and takes its time.
COMMAND = """
import sys, time
from pathlib import Path
import converter.execution.comparison as comparison, converter.execution.executor as executor, converter.plan as plan
executor.FLUSH_SECONDS, plan.TILE_ELEMENTS = 0.0, 1 << 13
compare, read = executor.difference, comparison.checksum_at
def difference(*arguments, **choices):
    Path(sys.argv[-1]).with_suffix(".reading").touch()
    comparison.checksum_at = lambda *places: time.sleep(0.02) or read(*places)
    return compare(*arguments, **choices)
executor.difference = difference
from converter.cli import main
main()
"""


def killed(model: Path, output: Path, reason: signal.Signals, at: Callable[[], bool]) -> int:
    """Run the command as a user does, and kill it at a moment."""
    process = subprocess.Popen(
        [
            sys.executable, "-c", COMMAND, "--model", str(model), "--method", "q5_1", "--verify", "none", "--quiet",
            "--no-catalogue", "--output", str(output),
        ]
    )  # fmt: skip
    while not at() and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(reason)
    return process.wait()


def test_killed_and_changed(
    model: Path, undisturbed: Callable[[str], dict[str, bytes]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output, journal = tmp_path / "out.gguf", tmp_path / "out.gguf.part.journal"

    def recorded() -> bool:
        return journal.exists() and journal.read_bytes().count(b"\n") > 3

    assert killed(model, output, signal.SIGKILL, recorded) == -signal.SIGKILL
    tile = int(journal.read_text().splitlines()[1].split()[1].split(":")[0])
    part = tmp_path / "out.gguf.part"
    first = GGUFReader(part).tensors[0]
    rows = TILE_ELEMENTS // int(first.shape[0])
    flip(part, int(first.data_offset + tile * rows * first.data.shape[-1]) + 5)
    assert run(model, "gguf", tmp_path).resumed
    assert contents(tmp_path) == undisturbed("gguf")
    assert caplog.messages == [f"{part}: 1 piece of {first.name} changed on the disk since the last run; written anew"]


@pytest.mark.parametrize(("reason", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_killed_while_the_output_is_read_back(
    model: Path,
    reason: signal.Signals,
    code: int,
    undisturbed: Callable[[str], dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everything is kept, nothing is written again, and nothing has its final name before it was compared."""
    output, reading = tmp_path / "out.gguf", tmp_path / "out.reading"
    assert killed(model, output, reason, reading.exists) == code
    reading.unlink()
    assert sorted(contents(tmp_path)) == ["out.gguf.part", "out.gguf.part.journal"]
    monkeypatch.setattr(Job, "write", None)
    assert run(model, "gguf", tmp_path).resumed
    assert contents(tmp_path) == undisturbed("gguf")


@pytest.mark.parametrize("room", [0, 10, 5000])
def test_a_disk_that_fills_up_with_the_journal(
    model: Path,
    room: int,
    undisturbed: Callable[[str], dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where so many bytes of the journal still fit; a line that is cut short costs its tiles only."""
    write, left = os.write, room

    def fill(descriptor: int, content: bytes) -> int:
        nonlocal left
        if not str(Path(f"/proc/self/fd/{descriptor}").readlink()).endswith(".journal"):
            return write(descriptor, content)
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = write(descriptor, content[:left])
        left -= count
        return count

    with monkeypatch.context() as patch:
        patch.setattr("os.write", fill)
        with pytest.raises(OutputError, match=r"^the disk filled up while writing; free some space and run the same"):
            run(model, "gguf", tmp_path)
    assert not (tmp_path / "out.gguf").exists()
    assert run(model, "gguf", tmp_path).resumed is (room == 5000)
    assert contents(tmp_path) == undisturbed("gguf")
