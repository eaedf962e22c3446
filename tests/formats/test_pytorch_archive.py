"""Files of torch.save with holes, filled afterwards: read back by torch and by Python's zipfile."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.architectures import Piece, TargetTensor
from converter.formats import pytorch_archive
from converter.formats.pytorch_archive import reserve, seal
from converter.formats.safetensors_scheme import PLAIN
from converter.formats.torchao import INTX
from converter.plan import PlannedTensor
from converter.quants.encoding import Encoding


def planned(name: str, shape: tuple[int, ...], encoding: Encoding, file: int = 0) -> PlannedTensor:
    return PlannedTensor(TargetTensor(name, shape, (Piece(name),)), encoding, file)


def fill(
    paths: list[Path], tensors: list[PlannedTensor], positions: list[tuple[int, ...]]
) -> dict[str, NDArray[np.float32]]:
    """Write random weights where they belong, and return them."""
    random = np.random.default_rng(3)
    weights = {}
    for one, places in zip(tensors, positions, strict=True):
        rows = random.normal(size=(one.target.rows, one.target.row_length)).astype(np.float32)
        weights[one.target.name] = rows.reshape(one.target.shape)
        with paths[one.file].open("r+b") as file:
            for array, place in zip(one.encoding.encode(rows), places, strict=True):
                assert file.seek(place) == place
                file.write(array.tobytes())
    return weights


def test_plain_tensors_of_several_files(tmp_path: Path) -> None:
    import torch

    paths = [tmp_path / "first.bin", tmp_path / "second.bin"]
    tensors = [
        planned("a.weight", (5, 7), PLAIN["f32"]),
        planned("b.weight", (6, 4), PLAIN["f16"], 1),
        planned("a.bias", (5,), PLAIN["f32"]),
        planned("c.weight", (2, 3, 4), PLAIN["bf16"], 1),
    ]
    weights = fill(paths, tensors, reserve(paths, tensors, "float16"))
    for path in paths:
        seal(path)
    states = [torch.load(path, weights_only=True) for path in paths]
    assert [list(state) for state in states] == [["a.weight", "a.bias"], ["b.weight", "c.weight"]]
    dtypes = {"a.weight": torch.float32, "a.bias": torch.float32, "b.weight": torch.float16, "c.weight": torch.bfloat16}
    for name, tensor in {**states[0], **states[1]}.items():
        assert torch.equal(tensor, torch.from_numpy(weights[name]).to(dtypes[name]))
        assert tensor.dtype == dtypes[name]


@pytest.mark.parametrize("method", ["q4_0", "q5_1"])
def test_tensors_of_torchao(tmp_path: Path, method: str) -> None:
    import torch
    from torchao.quantization import IntxUnpackedToInt8Tensor

    path = tmp_path / "model.bin"
    tensors = [planned("a.weight", (8, 96), INTX[method]), planned("norm.weight", (96,), PLAIN["f16"])]
    weights = fill([path], tensors, reserve([path], tensors, "float16"))
    seal(path)
    state = torch.load(path, weights_only=True)
    weight = state["a.weight"]
    assert isinstance(weight, IntxUnpackedToInt8Tensor)
    assert weight.shape == (8, 96)
    assert weight.dtype == torch.float16
    assert weight.target_dtype == getattr(torch, INTX[method].weight_dtype)
    assert tuple(weight.block_size) == (1, 32)
    encoded = INTX[method].encode(weights["a.weight"])
    for part, array in zip((weight.qdata, weight.scale, weight.zero_point), encoded, strict=True):
        np.testing.assert_array_equal(part.numpy().view(np.uint8).reshape(array.shape), array)


def test_checksums_are_those_of_the_contents(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    tensors = [planned("a.weight", (8, 96), INTX["q8_0"]), planned("b.weight", (3, 1 << 19), PLAIN["f16"])]
    fill([path], tensors, reserve([path], tensors, "float16"))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() == "archive/data/0"
    seal(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert len(archive.infolist()) > 4
    sealed = path.read_bytes()
    seal(path)
    assert path.read_bytes() == sealed


def test_the_same_files_each_time(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.bin", "zweißig.bin")]
    tensors = [
        planned(name, shape, encoding, file)
        for file in range(2)
        for name, shape, encoding in (("a.weight", (8, 96), INTX["q4_0"]), ("b.weight", (3, 40), PLAIN["f16"]))
    ]
    positions = reserve(paths, tensors, "float16")
    assert positions[:2] == positions[2:]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_file_of_more_than_four_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions beyond 32 bits; the checksums stand for any, so that no gigabytes need to be read."""
    import torch

    path = tmp_path / "model.bin"
    tensors = [
        planned("large.weight", (1 << 16, 33_000), PLAIN["f16"]),
        planned("last.weight", (4, 4), PLAIN["f32"]),
    ]
    ((large,), (last,)) = reserve([path], tensors, "float16")
    assert path.stat().st_size > last > 1 << 32
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), np.float16(1.5).tobytes(), large + 2 * ((1 << 16) * 33_000 - 1))
        os.pwrite(file.fileno(), np.arange(16, dtype=np.float32).tobytes(), last)
    monkeypatch.setattr(pytorch_archive, "_crc32", lambda descriptor, start, count: start % 99991 + count % 997)
    seal(path)
    state = torch.load(path, weights_only=True, mmap=True)
    assert state["large.weight"][-1, -1] == 1.5
    assert torch.equal(state["last.weight"], torch.arange(16, dtype=torch.float32).view(4, 4))
    with zipfile.ZipFile(path) as archive:
        checksums = {record.filename: record.CRC for record in archive.infolist()}
    assert checksums["archive/data/0"] == large % 99991 + ((1 << 17) * 33_000) % 997
    assert checksums["archive/data/1"] == last % 99991 + 64
