"""Parts of a GGUF model that do not belong together, directories of GGUF files, and files that lie elsewhere."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFValueType
from gguf_splitter import rewrite

from converter import convert
from converter.checkpoints.gguf import open_gguf_checkpoint
from converter.errors import CheckpointError
from converter.gguf.parts import find_gguf
from converter.gguf.reader import read_gguf_header
from converter.sources.source_file import SourceFile

SAMPLE = Path(__file__).parents[1] / "fixtures" / "sample"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample in one file."""
    return convert(SAMPLE, "f32", tmp_path_factory.mktemp("whole") / "whole.gguf", verify="none").output


@pytest.fixture(scope="module")
def split(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same in three files."""
    return rewrite(whole, tmp_path_factory.mktemp("parts") / "model.gguf", max_tensors=13)


@pytest.fixture
def parts(split: list[Path], tmp_path: Path) -> list[Path]:
    """Three files to damage."""
    return [Path(shutil.copy(part, tmp_path)) for part in split]


def put(path: Path, key: str, layout: str, value: int) -> None:
    """Give a key of a file's header another value."""
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, content.index(key.encode()) + len(key) + 4, value)
    path.write_bytes(content)


def refused(path: Path, expected: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_gguf_checkpoint(path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tensors_and_key_values(whole: Path, parts: list[Path]) -> None:
    header, checkpoint = open_gguf_checkpoint(parts[1])
    reader = GGUFReader(whole)
    assert [pair.key for pair in header.metadata] == [name for name in reader.fields if not name.startswith("GGUF.")]
    assert list(checkpoint.tensors) == [info.name for info in header.tensors] == [one.name for one in reader.tensors]
    for tensor in reader.tensors:
        source = checkpoint.tensors[tensor.name]
        assert np.array_equal(source.read_rows(0, source.rows).reshape(-1), tensor.data.reshape(-1))
    assert [identity.path for identity in checkpoint.files] == parts
    checkpoint.close()


def test_a_missing_part(parts: list[Path]) -> None:
    parts[1].unlink()
    refused(parts[2], f"is one of 3 parts, 1 of them missing: {parts[1].name}; download them")


def test_another_name(parts: list[Path]) -> None:
    other = parts[1].rename(parts[1].with_name("other.gguf"))
    refused(other, "is part 2 of 3; expected a name that ends in -00002-of-00003.gguf, as the others are found by it")
    other = other.rename(parts[1].with_name("model-00002-of-00004.gguf"))
    refused(other, "is part 2 of 3; expected a name that ends in -00002-of-00003.gguf, as the others are found by it")


def test_another_number_and_count(parts: list[Path]) -> None:
    shutil.copy(parts[2], parts[1])
    refused(parts[0], f"{parts[1]}: split.no and split.count are 2 and 3, 1 and 3 expected; download it again")
    put(parts[2], "split.count", "<H", 4)
    put(parts[1], "split.no", "<H", 1)
    refused(parts[0], f"{parts[2]}: split.no and split.count are 2 and 4, 2 and 3 expected; download it again")


def test_another_total(parts: list[Path]) -> None:
    put(parts[1], "split.tensors.count", "<i", 40)
    refused(parts[0], f"{parts[1]}: is a part of another model, of 40 tensors; {parts[0].name} is of 39; download")
    for part in parts:
        put(part, "split.tensors.count", "<i", 40)
    refused(parts[0], f"{parts[0]}: split.tensors.count is 40, its 3 parts hold 39 tensors; download them again")
    put(parts[0], "split.tensors.count", "<i", -1)
    refused(parts[0], f"{parts[0]}: split.tensors.count is -1, expected a number up to")


def test_another_model(whole: Path, parts: list[Path]) -> None:
    keys = {"split.no": (1, GGUFValueType.UINT16), "split.count": (3, GGUFValueType.UINT16)}
    rewrite(whole, parts[1], pairs=keys | {"llama.block_count": (3, GGUFValueType.UINT32)})
    refused(parts[0], f"{parts[1]}: is a part of another model: llama.block_count is 3, in {parts[0].name} 4; download")


def test_a_tensor_twice(parts: list[Path]) -> None:
    names = [tensor.name.encode() for tensor in GGUFReader(parts[1]).tensors]
    doubled = next(tensor.name for tensor in GGUFReader(parts[0]).tensors if tensor.name.startswith("blk.0."))
    changed = next(name for name in names if len(name) == len(doubled))
    parts[1].write_bytes(parts[1].read_bytes().replace(changed, doubled.encode()))
    refused(parts[0], f"{parts[1]}: tensor {doubled} is also in {parts[0].name}; expected each tensor once; download")


def test_a_count_that_is_no_number(whole: Path, tmp_path: Path) -> None:
    (other,) = rewrite(whole, tmp_path / "other.gguf", pairs={"split.count": ("two", GGUFValueType.STRING)})
    refused(other, "split.count is 'two', expected a number up to 65535")


def test_directories(whole: Path, parts: list[Path], tmp_path: Path) -> None:
    folder = parts[0].parent
    assert find_gguf(folder) == parts[0]
    assert find_gguf(whole.parent) == whole
    assert find_gguf(whole) == whole
    assert find_gguf(SAMPLE) is None
    assert find_gguf(tmp_path / "nothing") is None
    (folder / "config.json").write_text("{}")
    parts[0].unlink()
    assert find_gguf(folder) == parts[1]  # opening it tells what is missing
    shutil.copy(whole, folder / "another.gguf")
    with pytest.raises(CheckpointError) as caught:
        find_gguf(folder)
    expected = f"{folder}: holds 2 GGUF models: another.gguf, {parts[1].name}; pass the file of the one you mean"
    assert str(caught.value) == expected
    (folder / "another.gguf").unlink()
    for name in ("imatrix.gguf", "model-q4_0.gguf.imatrix.gguf", "mmproj-model-f16.gguf"):
        (folder / name).touch()
    assert find_gguf(folder) == parts[1]
    (folder / "model.safetensors").touch()
    assert find_gguf(folder) is None


def test_files_elsewhere(whole: Path, parts: list[Path], tmp_path: Path) -> None:
    """As when they are read over a network: nothing is there under the names that count."""
    places = [part.rename(part.with_suffix(".blob")) for part in parts]
    elsewhere = {part.name: SourceFile(place) for part, place in zip(parts, places, strict=True)}
    assert find_gguf(tmp_path, elsewhere) == parts[0]
    _, checkpoint = open_gguf_checkpoint(parts[0], elsewhere)
    assert list(checkpoint.tensors) == [tensor.name for tensor in GGUFReader(whole).tensors]
    assert [identity.path for identity in checkpoint.files] == places


def test_headers_are_read_in_runs(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of any length give the same header, and nothing behind it is read."""
    expected, reads = read_gguf_header(whole), []
    read_bytes = SourceFile.read_bytes

    def recorded(file: SourceFile, offset: int, count: int) -> bytes:
        reads.append(offset + count)
        return read_bytes(file, offset, count)

    monkeypatch.setattr(SourceFile, "read_bytes", recorded)
    for window in (1, 7, 4096):
        reads.clear()
        monkeypatch.setattr("converter.gguf.reader.WINDOW", window)
        assert read_gguf_header(whole) == expected
        assert max(reads) < expected.data_start + window
    monkeypatch.setattr("converter.gguf.reader.MAX_HEADER", 2000)
    with pytest.raises(CheckpointError, match="a header of more than 2000 bytes at byte"):
        read_gguf_header(whole)
