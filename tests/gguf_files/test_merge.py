"""A model in several GGUF files, read and joined. The parts are cut by gguf's own writer."""

from __future__ import annotations

import fcntl
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from command_line import convert, refusal
from gguf import GGUFReader, GGUFValueType
from gguf_splitter import rewrite

from converter import convert as run
from converter.gguf.merge import merge

SAMPLE = Path(__file__).parents[1] / "fixtures" / "sample"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample in one file."""
    return run(SAMPLE, "f16", tmp_path_factory.mktemp("whole") / "whole.gguf", verify="none").output


@pytest.fixture(scope="module")
def parts(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same in three files."""
    return rewrite(whole, tmp_path_factory.mktemp("parts") / "model.gguf", max_tensors=13)


def written(source: Path, output: Path) -> bytes:
    """What a source becomes in q4_0."""
    outcome = convert("--model", source, "--method", "q4_0", "--output", output)
    assert outcome.code == 0, outcome.err
    assert "llama.cpp loads the file" in outcome.out
    return output.read_bytes()


@pytest.mark.parametrize("number", [0, 2])
def test_any_part_stands_for_all(whole: Path, parts: list[Path], tmp_path: Path, number: int) -> None:
    output = tmp_path / "b.gguf"
    assert written(parts[number], output) == written(whole, tmp_path / "a.gguf")
    assert not any(name.startswith("split.") for name in GGUFReader(output).fields)


def test_their_directory_stands_for_them(whole: Path, parts: list[Path], tmp_path: Path) -> None:
    assert written(parts[0].parent, tmp_path / "b.gguf") == written(whole, tmp_path / "a.gguf")
    shutil.copy(whole, parts[0].parent / "another.gguf")
    message = refusal("--model", parts[0].parent, "--method", "q4_0", "--output", tmp_path / "c.gguf")
    (parts[0].parent / "another.gguf").unlink()
    assert message.startswith(f"{parts[0].parent}: holds 2 GGUF models: another.gguf, {parts[0].name}; pass the file")


def test_a_file_that_llama_cpp_joined_is_whole(whole: Path, tmp_path: Path) -> None:
    """llama-gguf-split leaves the keys of the split behind, with a count of 0."""
    left = {
        "split.no": (0, GGUFValueType.UINT16),
        "split.tensors.count": (39, GGUFValueType.INT32),
        "split.count": (0, GGUFValueType.UINT16),
    }
    (joined,) = rewrite(whole, tmp_path / "joined.gguf", pairs=left)
    assert written(joined, tmp_path / "b.gguf") == written(whole, tmp_path / "a.gguf")


def test_another_alignment_is_left_behind(whole: Path, tmp_path: Path) -> None:
    (other,) = rewrite(whole, tmp_path / "other.gguf", pairs={"general.alignment": (256, GGUFValueType.UINT32)})
    assert written(other, tmp_path / "b.gguf") == written(whole, tmp_path / "a.gguf")


@pytest.mark.parametrize("given", [slice(1, 2), slice(None), slice(None, None, -1)])
def test_joined_bytes(whole: Path, parts: list[Path], tmp_path: Path, given: slice) -> None:
    output = tmp_path / "joined.gguf"
    outcome = convert("merge", *parts[given], "--output", output)
    assert outcome.code == 0, outcome.err
    assert outcome.out == f"{output} is {whole.stat().st_size / 1e6:.2f} MB: 39 tensors from 3 parts\n"
    assert output.read_bytes() == whole.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["joined.gguf"]


def test_parts_in_several_places(whole: Path, parts: list[Path], tmp_path: Path) -> None:
    places = [tmp_path / str(number) / part.name for number, part in enumerate(parts)]
    for part, place in zip(parts, places, strict=True):
        place.parent.mkdir()
        shutil.copy(part, place)
    output = tmp_path / "joined.gguf"
    output.write_text("to be replaced")
    outcome = convert("--quiet", "merge", *places, "--output", output, "--overwrite")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert output.read_bytes() == whole.read_bytes()


def test_what_is_not_joined(whole: Path, parts: list[Path], tmp_path: Path) -> None:
    output, part = tmp_path / "joined.gguf", shutil.copy(parts[0], tmp_path / parts[0].name)
    cases: dict[tuple[object, ...], str] = {
        (whole, "--output", output): f"{whole}: is a whole file, not one of several parts; there is nothing to merge",
        (*parts, whole, "--output", output): f"{whole}: is not a part of the model of {parts[0].name}, or given twice",
        (
            parts[0],
            parts[0],
            "--output",
            output,
        ): f"{parts[0]}: is not a part of the model of {parts[0].name}, or given",
        (parts[0], "--output", Path(part) / "x.gguf"): f"{part} is not a directory; choose another --output",
        (parts[0], "--output", part): f"{part}: exists already; pass --overwrite to replace it or choose another",
        (parts[0], "--output", tmp_path, "--overwrite"): f"{tmp_path}: is a directory, a file expected; choose",
        (*parts, "--output", parts[1], "--overwrite"): f"{parts[1]}: is one of the parts; choose",
        (part, "--output", output): f"{part}: is one of 3 parts, 2 of them missing: {parts[1].name}, {parts[2].name};",
        (tmp_path / "no.gguf", "--output", output): f"{tmp_path / 'no.gguf'}: cannot be read: No such file",
    }
    for arguments, expected in cases.items():
        code = 2 if "whole.gguf" in expected or "given" in expected else 1
        assert expected in refusal("merge", *arguments, code=code)
        assert [path.name for path in tmp_path.iterdir()] == [parts[0].name]


def test_a_truncated_part(parts: list[Path], tmp_path: Path) -> None:
    for part in parts:
        shutil.copy(part, tmp_path)
    last = tmp_path / parts[2].name
    last.write_bytes(last.read_bytes()[:-100])
    message = refusal("merge", last, "--output", tmp_path / "joined.gguf")
    assert message.startswith(f"{last}: is truncated: tensor output.weight ends at byte ")


def test_a_full_disk(parts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000))
    expected = "5.8 MB needed, 0.0 MB free on its disk; free some space or choose another --output"
    assert expected in refusal("merge", parts[0], "--output", tmp_path / "joined.gguf")


def test_two_at_once(parts: list[Path], tmp_path: Path) -> None:
    with (tmp_path / "joined.gguf.part").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "another process is writing this file" in refusal(
            "merge", parts[0], "--output", tmp_path / "joined.gguf"
        )


def test_an_interruption_leaves_nothing(parts: list[Path], tmp_path: Path) -> None:
    def interrupt(done: int, total: int, item: str) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(parts, tmp_path / "joined.gguf", progress=interrupt)
    assert not list(tmp_path.iterdir())
