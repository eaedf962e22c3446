"""What may stand where a file is written: devices, pipes and sockets are never replaced, directories are made."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import convert, refusal

from converter import convert as run
from converter.adapters.export import export_adapter
from converter.catalogue import Catalogue
from converter.errors import OutputError
from converter.gguf.merge import merge
from converter.outputs import check_output
from converter.pipeline import collect

SAMPLE = Path(__file__).parent / "fixtures" / "sample"

#: Every way to write a file, given where.
WRITERS: dict[str, Callable[[Path], Any]] = {
    "gguf": lambda path: run(SAMPLE, "q8_0", path, overwrite=True, verify="none"),
    "dry run": lambda path: run(SAMPLE, "q8_0", path, dry_run=True),
    "parts": lambda path: run(SAMPLE, "q8_0", path, overwrite=True, verify="none", split_max_tensors=4),
    "safetensors": lambda path: run(
        SAMPLE, "f16", path.with_suffix(""), overwrite=True, verify="none", output_format="safetensors"
    ),
    "pytorch": lambda path: run(
        SAMPLE, "f16", path.with_suffix(""), force=True, verify="none", output_format="pytorch"
    ),
    "merge": lambda path: merge([Path("x-00001-of-00002.gguf")], path, overwrite=True),
    "adapter": lambda path: export_adapter(Path("x"), None, path, overwrite=True),  # type: ignore[arg-type]
    "imatrix": lambda path: collect(SAMPLE, ["x.txt"], path.with_suffix(".gguf"), overwrite=True),
}
DIRECTORIES = ("safetensors", "pytorch")


@pytest.fixture
def special(tmp_path: Path) -> Iterator[dict[str, tuple[Path, str]]]:
    """What is no regular file, by a name: where it is, and what a refusal calls it."""
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "linked.gguf").symlink_to("pipe.gguf")
    (tmp_path / "far.gguf").symlink_to("linked.gguf")
    (tmp_path / "null.gguf").symlink_to("/dev/null")
    (tmp_path / "stdout.gguf").symlink_to("/dev/stdout")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.gguf"))
        for path in list(tmp_path.iterdir()):  # and without the suffix
            os.link(path, path.with_suffix(""), follow_symlinks=False)
        yield {
            **{name: (tmp_path / f"{name}.gguf", "a pipe") for name in ("pipe", "linked", "far")},
            "socket": (tmp_path / "socket.gguf", "a socket"),
            "null": (tmp_path / "null.gguf", "a device"),
            "stdout": (tmp_path / "stdout.gguf", "an open file of this process, such as standard output"),
        }


def identities(folder: Path) -> dict[str, tuple[int, int]]:
    """Which things lie in a directory, and of which kind each is."""
    return {path.name: (path.lstat().st_ino, path.lstat().st_mode) for path in folder.iterdir()}


@pytest.mark.parametrize("writer", WRITERS)
def test_no_writer_replaces_what_is_no_file(writer: str, special: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    before = identities(tmp_path)
    for path, kind in special.values():
        with pytest.raises(OutputError) as refused:
            WRITERS[writer](path)
        name = path if writer not in DIRECTORIES else path.with_suffix("")
        assert str(refused.value) == (
            f"{name}: is {kind}, but an output is written at many places and read back, which only a regular file can "
            "take; name one"
        )
    assert identities(tmp_path) == before


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("/dev/null", "a device"),
        ("-", "standard output"),
        ("/dev/stdout", "an open file of this process, such as standard output"),
        ("/dev/fd/1", "an open file of this process, such as standard output"),
        ("/proc/self/fd/1", "an open file of this process, such as standard output"),
    ],
)
def test_devices_by_name(output: str, kind: str) -> None:
    device = Path("/dev/null").stat()
    message = refusal("--model", SAMPLE, "--method", "q4_0", "--overwrite", "--verify", "none", "--output", output)
    assert message.startswith(f"{output}: is {kind}, but an output is written at many places and read back, which ")
    assert "--overwrite" not in message
    assert Path("/dev/null").stat().st_mode == device.st_mode
    assert stat.S_ISCHR(device.st_mode)


def test_standard_output_that_is_a_file(tmp_path: Path) -> None:
    """``--output /dev/stdout > file``: the shell's file is not what is meant."""
    code = "from converter.cli import main; main()"
    with (tmp_path / "shell.gguf").open("w") as out:
        done = subprocess.run(
            [sys.executable, "-c", code, "--quiet", "--model", str(SAMPLE), "--method", "q4_0", "--overwrite",
             "--output", "/dev/stdout"],
            stdout=out, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "is an open file of this process" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["shell.gguf"]


def test_a_modelfile_and_parts_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.Modelfile")
    with pytest.raises(OutputError, match=r"x\.Modelfile: is a pipe, but"):
        run(SAMPLE, "q8_0", tmp_path / "x.gguf", modelfile=True, force=True, verify="none")
    os.mkfifo(tmp_path / "y-00002-of-00003.gguf")
    with pytest.raises(OutputError, match=r"y-00002-of-00003\.gguf: is a pipe, but"):
        run(SAMPLE, "q8_0", tmp_path / "y.gguf", split_max_tensors=16, force=True, verify="none")
    os.mkfifo(tmp_path / "z.gguf.part")
    with pytest.raises(OutputError, match=r"z\.gguf\.part: is not a regular file; remove it or choose another"):
        run(SAMPLE, "q8_0", tmp_path / "z.gguf", force=True, verify="none")
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("device", ["/dev/null", "pipe"])
def test_a_catalogue_that_is_none(device: str, tmp_path: Path) -> None:
    """It costs the record, not the conversion; nothing waits for a pipe's other end."""
    os.mkfifo(tmp_path / "pipe")
    place = device if device.startswith("/") else tmp_path / device
    result = run(SAMPLE, "q8_0", tmp_path / "x.gguf", verify="none", catalogue=place)
    kind = "a pipe" if device == "pipe" else "a device"
    assert result.warnings == (
        f"this conversion is not in the catalogue: {place}: is {kind}, not a file; choose another --catalogue",
    )
    assert not Path(f"{place}-journal").exists()


@pytest.mark.parametrize("choices", [{}, {"output_format": "safetensors"}, {"split_max_tensors": 16}])
def test_directories_are_made(choices: dict[str, Any], tmp_path: Path) -> None:
    output = tmp_path / "models" / "new" / "x.gguf"
    if "output_format" in choices:
        output = output.with_suffix("")
    planned = run(SAMPLE, "f16", output, dry_run=True, **choices)
    assert planned.output == output
    assert list(tmp_path.iterdir()) == [], "a dry run writes nothing"
    made = run(SAMPLE, "f16", output, verify="none", **choices)
    assert made.output.exists()
    with Catalogue(output.parent / "catalogue.sqlite") as catalogue:
        (record,) = catalogue.records()
    assert record.output == output


def test_directories_are_made_by_every_command(tmp_path: Path) -> None:
    run(SAMPLE, "f16", tmp_path / "x.gguf", verify="none", split_max_tensors=16, catalogue="")
    (part,) = tmp_path.glob("x-00001-of-*.gguf")
    assert convert("merge", part, "--output", tmp_path / "a" / "b" / "whole.gguf").code == 0
    text = tmp_path / "text.txt"
    text.write_text((SAMPLE / "heldout.txt").read_text()[:4000])
    matrix = tmp_path / "c" / "d" / "imatrix.gguf"
    outcome = convert("imatrix", "--model", tmp_path / "a" / "b" / "whole.gguf", "--text", text, "--output", matrix)
    assert (outcome.code, matrix.exists()) == (0, True), outcome
    outcome = convert("imatrix", "--combine", matrix, "--combine", matrix, "--output", tmp_path / "e" / "sum.dat")
    assert (outcome.code, (tmp_path / "e" / "sum.dat").exists()) == (0, True), outcome


def test_a_file_in_the_way_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    for name in ("file", "nowhere"):
        message = refusal("--model", SAMPLE, "--method", "q4_0", "--output", tmp_path / name / "new" / "x.gguf")
        assert message == f"{tmp_path}/{name}/new/x.gguf: {tmp_path}/{name} is not a directory; choose another --output"


def test_a_directory_that_may_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
        with pytest.raises(OutputError) as refused:
            check_output(tmp_path / "new" / "x.gguf", overwrite=False)
    assert str(refused.value) == (
        f"{tmp_path}/new/x.gguf: directory {tmp_path} may not be written to; choose another --output"
    )
    # No right shows this one: the kernel makes no directories here.
    message = refusal("--model", SAMPLE, "--method", "q4_0", "--output", "/proc/new/x.gguf")
    assert message == "/proc/new: cannot be made: No such file or directory; choose another --output"


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    output = tmp_path / ("x" * 300)
    with pytest.raises(OutputError) as refused:
        check_output(output, overwrite=False)
    assert str(refused.value) == f"{output}: cannot be written: File name too long; choose another --output"
