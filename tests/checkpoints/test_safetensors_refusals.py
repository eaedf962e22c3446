"""Broken safetensors files: each refused in one line, and by the safetensors library as well unless it says so."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from converter.checkpoints.safetensors import read_tensors
from converter.sources.source_file import SourceFile

PAIR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def tensor(**changes: Any) -> dict[str, Any]:
    return {"w": PAIR | changes}


BROKEN: list[tuple[Any, int, str]] = [
    # header (object or raw bytes), bytes of data, what the message must say
    (tensor(), 7, "is truncated: tensor w ends at byte 8 of the data, of which there are 7"),
    (tensor(), 9, "has 9 bytes of data, its header describes 8"),
    (tensor(data_offsets=[100, 108]), 8, "tensor w ends at byte 108 of the data, of which there are 8"),
    (tensor(data_offsets=[1, 9]), 9, "begins at byte 1 of the data and leaves a hole behind the header"),
    ({"a": PAIR, "b": PAIR | {"data_offsets": [4, 12]}}, 12, "tensor b begins at byte 4 of the data and overlaps a"),
    ({"a": PAIR, "b": PAIR}, 8, "tensor b begins at byte 0 of the data and overlaps a"),
    ({"a": PAIR, "b": PAIR | {"data_offsets": [12, 20]}}, 20, "leaves a hole behind a, which ends at 8"),
    (tensor(shape=[3]), 8, "F32 [3] takes 12 bytes, data_offsets spans 8"),
    (tensor(dtype="F16"), 8, "F16 [2] takes 4 bytes, data_offsets spans 8"),
    (tensor(dtype="F4", shape=[1], data_offsets=[0, 0]), 0, "F4 [1] takes 0.5 bytes"),
    (tensor(dtype="F31"), 8, "dtype is 'F31', expected one of"),
    (tensor(dtype=4), 8, "dtype is 4"),
    (tensor(dtype=None), 8, "dtype is None"),
    (tensor(shape=[-2]), 8, "shape is [-2], expected a list of sizes"),
    (tensor(shape=[-2, -1]), 8, "shape is [-2, -1], expected a list of sizes"),
    (tensor(shape=[2.0]), 8, "shape is [2.0], expected a list of sizes"),
    (tensor(shape=[2, True]), 8, "shape is [2, True], expected a list of sizes"),
    (tensor(shape="2"), 8, "shape is '2', expected a list of sizes"),
    (tensor(shape=None), 8, "shape is None, expected a list of sizes"),
    (tensor(shape=[2**32, 2**32]), 8, "shape is [4294967296, 4294967296], expected a list of sizes"),
    (tensor(shape=[2**62, 4, 2]), 8, "expected a list of sizes"),
    (tensor(shape=[2**64]), 8, "expected a list of sizes"),
    (tensor(data_offsets=[8, 0]), 8, "data_offsets is [8, 0], expected [begin, end]"),
    (tensor(data_offsets=[-8, 0]), 8, "data_offsets is [-8, 0], expected [begin, end]"),
    (tensor(data_offsets=[0, 4, 8]), 8, "data_offsets is [0, 4, 8], expected [begin, end]"),
    (tensor(data_offsets=[0, 8.0]), 8, "data_offsets is [0, 8.0], expected [begin, end]"),
    (tensor(data_offsets=[False, 8]), 8, "data_offsets is [False, 8], expected [begin, end]"),
    ({"w": 3}, 0, "tensor 'w': is 3, expected dtype, shape and data_offsets"),
    ({"w": {"dtype": "F32", "shape": [0]}}, 0, "expected dtype, shape and data_offsets"),
    ({"__metadata__": {"format": 1}}, 0, "__metadata__ is {'format': 1}, expected an object of strings"),
    ({"__metadata__": "pt"}, 0, "__metadata__ is 'pt', expected an object of strings"),
    (b"", 0, "the header: is not valid JSON"),
    (b"[]", 0, "the header: holds [], expected a JSON object"),
    (b"{} {}", 0, "the header: is not valid JSON: Extra data"),
    (b'{"w": ', 0, "the header: is not valid JSON"),
    (b'{"\xff": 1}', 0, "the header: is not valid JSON: 'utf-8' codec can't decode byte 0xff"),
    (b'{"a": NaN}', 0, "the header: is not valid JSON: NaN is not a JSON number"),
    (b'{"a": ' + b"[" * 100_000, 0, "the header: is not valid JSON"),
    (b'{"a": ' + b"9" * 5_000 + b"}", 0, "the header: is not valid JSON"),
    (b'{"w": {"dtype": "F32", "dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', 8, "'dtype' appears twice"),
    (b'{"\\ud800": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', 8, "printable characters"),
]

STRICTER: list[tuple[Any, int, str]] = [
    # The library keeps the last of two, ignores what it does not know, takes any name and the other spellings of serde.
    (
        b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},'
        b' "w": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}}',
        8,
        "the header: is not valid JSON: 'w' appears twice",
    ),
    (tensor(dtype={"F32": None}), 8, "dtype is {'F32': None}, expected one of F4"),
    ({"w": ["F32", [2], [0, 8]]}, 8, "tensor 'w': is ['F32', [2], [0, 8]], expected dtype, shape and data_offsets"),
    (tensor(strides=[1]), 8, "expected dtype, shape and data_offsets"),
    ({"a\nb": PAIR}, 8, "tensor 'a\\nb': expected a name of at most 1024 printable characters"),
    ({"a" * 2000: PAIR}, 8, "expected a name of at most 1024 printable characters"),
    (tensor(shape=[1] * 64 + [2]), 8, "expected a list of sizes"),
    (tensor(shape=[0, 2**61], data_offsets=[0, 0]), 0, "expected a list of sizes"),
]


@pytest.mark.parametrize(("header", "data", "expected"), BROKEN, ids=lambda value: str(value)[:60])
def test_broken_headers(
    *,
    tmp_path: Path,
    file_bytes: Callable[..., bytes],
    refusal: Callable[..., str],
    header: Any,
    data: int,
    expected: str,
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(file_bytes(header, data))
    message = refusal(read_tensors, SourceFile(path))
    assert message.startswith(f"{path}: ")
    assert expected in message
    with pytest.raises(SafetensorError):
        safe_open(path, "numpy")


@pytest.mark.parametrize(("header", "data", "expected"), STRICTER, ids=lambda value: str(value)[:60])
def test_headers_that_the_library_would_take(
    *,
    tmp_path: Path,
    file_bytes: Callable[..., bytes],
    refusal: Callable[..., str],
    header: Any,
    data: int,
    expected: str,
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(file_bytes(header, data))
    assert expected in refusal(read_tensors, SourceFile(path))
    with safe_open(path, "numpy") as file:
        assert len(file.keys()) == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty; download it again"),
        (b"\x02\0\0\0{}", "has 6 bytes, too few for safetensors"),
        (b"\x03\0\0\0\0\0\0\0{}", "announces a header of 3 bytes but has only 10 bytes in all"),
        ((100_000_001).to_bytes(8, "little") + b"{}", "announces a header of 100000001 bytes, expected at most"),
        (b"\xff" * 8 + b"{}", "announces a header of 18446744073709551615 bytes, expected at most 100000000"),
        (b"PK\x03\x04" + bytes(100), "is a zip archive; unpack it and pass the directory that it holds"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123456789\n",
            "is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`",
        ),
    ],
)  # fmt: skip
def test_not_a_safetensors_file(tmp_path: Path, refusal: Callable[..., str], content: bytes, expected: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    message = refusal(lambda: read_tensors(SourceFile(path)))
    assert message.startswith(f"{path}: {expected}")
    with pytest.raises(SafetensorError):
        safe_open(path, "numpy")


def test_a_header_at_the_limit_is_not_allocated(tmp_path: Path, refusal: Callable[..., str]) -> None:
    """A sparse file of 1 TB that announces a header of 1 TB less 8 bytes."""
    path = tmp_path / "model.safetensors"
    path.write_bytes((10**12 - 8).to_bytes(8, "little"))
    os.truncate(path, 10**12)
    assert "announces a header of 999999999992 bytes" in refusal(read_tensors, SourceFile(path))


def test_types_that_are_not_weights_are_listed_but_not_read(tmp_path: Path, refusal: Callable[..., str]) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"ids": np.arange(5), "mask": np.ones(3, bool), "w": np.ones((2, 2), np.float32)}, path)
    tensors = read_tensors(SourceFile(path))
    assert {name: (found.dtype, found.nbytes) for name, found in tensors.items()} == {
        "ids": ("I64", 40), "mask": ("BOOL", 3), "w": ("F32", 16),
    }  # fmt: skip
    assert tensors["w"].read_rows(0, 2).sum() == 4
    assert refusal(tensors["ids"].read_rows, 0, 1) == (
        f"{path}: tensor ids is of type I64, expected one of F32, F16, BF16, F64, F8_E4M3, "
        "F8_E5M2; save the checkpoint in one of these first"
    )


def test_a_file_that_shrinks_while_being_read(tmp_path: Path, refusal: Callable[..., str]) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"w": np.ones((100, 100), np.float32)}, path)
    found = read_tensors(SourceFile(path))["w"]
    os.truncate(path, path.stat().st_size - 1000)
    assert found.read_rows(0, 90).sum() == 9000
    assert f"{path}: ended at byte {path.stat().st_size} while being read, expected 1000 bytes more" in refusal(
        found.read_rows, 0, 100
    )


def test_a_file_that_changed_before_it_was_opened_again(tmp_path: Path, refusal: Callable[..., str]) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"w": np.ones((3, 3), np.float32)}, path)
    file = SourceFile(path)
    found = read_tensors(file)["w"]
    file.close()
    assert found.read_rows(0, 3).sum() == 9
    file.close()
    save_file({"w": np.zeros((3, 3), np.float32), "v": np.zeros(1, np.float32)}, path)
    assert refusal(found.read_rows, 0, 3).startswith(f"{path}: changed since the conversion began")


def test_what_is_not_a_regular_file(tmp_path: Path, refusal: Callable[..., str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, reason in [
        ("pipe", "is not a regular file"),
        (".", "is not a regular file"),
        ("loop", "cannot be read: Too many levels of symbolic links"),
        ("absent", "cannot be read: No such file or directory"),
        ("x" * 300, "cannot be read: File name too long"),
    ]:
        assert refusal(SourceFile, tmp_path / name) == f"{tmp_path / name}: {reason}"


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]) -> None:
    """The superuser may read everything, so the system's answer is given here."""

    def deny(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr(os, "open", deny)
    assert refusal(SourceFile, tmp_path / "model.safetensors").endswith("cannot be read: Permission denied")
