"""Files that are no importance matrix, or not one that can be used: one line each, and never another exception."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from imatrix.conftest import SAMPLE, Collected
from numpy.typing import NDArray

from converter.errors import ConversionError
from converter.imatrix import Entry, ImatrixError, ImportanceMatrix, combine, read_imatrix, write_imatrix


def refusal(path: Path) -> str:
    with pytest.raises(ImatrixError) as raised:
        read_imatrix(path)
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def entry(name: bytes = b"blk.0.a.weight", chunks: int = 1, values: tuple[float, ...] = (1.0, 2.0)) -> bytes:
    return struct.pack(f"<i{len(name)}sii{len(values)}f", len(name), name, chunks, len(values), *values)


DAT = struct.pack("<i", 1) + entry()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "not an importance matrix, or cut short: the number of entries needs 4 bytes, 0 left"),
        (b"\0\0\0\0", "not an importance matrix: the number of entries is 0, expected 1 to 2147483647"),
        (b"PK\3\4" + b"x" * 90, "not an importance matrix: the length of the name of entry 1 is 2021161080"),
        (DAT[:-1], "2 values of blk.0.a.weight needs 8 bytes, 7 left"),
        (DAT + b"\1\0\0", "the number of chunks needs 4 bytes, 3 left"),
        (DAT + struct.pack("<ii", 1, 9) + b"wiki", "the name of the text needs 9 bytes, 4 left"),
        (DAT + struct.pack("<ii", 1, 4) + b"wiki!", "1 bytes follow the name of the text, expected the file's end"),
        (struct.pack("<i", 1) + entry(b"\xff\xfe"), "the name of entry 1 is b'\\xff\\xfe', not UTF-8"),
        (struct.pack("<i", 1) + entry(b"a\nb"), "a tensor is named 'a\\nb', expected printable text"),
        (struct.pack("<i", 1) + entry(chunks=0), "the number of chunks of blk.0.a.weight is 0, expected 1 to"),
        (struct.pack("<i", 1) + entry(values=()), "the number of values of blk.0.a.weight is 0, expected 1 to"),
        (struct.pack("<i", 2) + entry() + entry(), "blk.0.a.weight appears twice, expected once"),
        (struct.pack("<i", 1) + entry(values=(1, float("nan"))), "1 of 2 values of blk.0.a.weight are not finite"),
        (struct.pack("<i", 1) + entry(values=(1, -1)), "blk.0.a.weight holds negative values, expected sums"),
        (struct.pack("<i", 1) + entry(values=(1, 3e38)), "1 of 2 values of blk.0.a.weight are not finite"),
    ],
)  # fmt: skip
def test_dat(data: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_bytes(data)
    assert expected in refusal(tmp_path / "x.dat")


class Writer(gguf.GGUFWriter):
    def add_architecture(self) -> None:
        pass


def write(path: Path, tensors: dict[str, NDArray], **keys: object) -> Path:
    """A GGUF of the keys that an importance matrix has, but for those given as None or otherwise."""
    writer = Writer(path, "")
    for key, value in ({"datasets": ["x"], "chunk_count": 1, "chunk_size": 64} | keys).items():
        if isinstance(value, list):
            writer.add_array(f"imatrix.{key}", value)
        elif isinstance(value, str):
            writer.add_string(f"imatrix.{key}", value)
        elif value is not None:
            writer.add_uint32(f"imatrix.{key}", value)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


SUMS, COUNTS = np.ones((2, 8), np.float32), np.ones((2, 1), np.float32)
GOOD = {"a.in_sum2": SUMS, "a.counts": COUNTS}


@pytest.mark.parametrize(
    ("tensors", "keys", "expected"),
    [
        ({"a.in_sum2": SUMS}, {}, "a.counts is missing; make the file again"),
        ({"a.counts": COUNTS}, {}, "a.in_sum2 is missing; make the file again"),
        ({"a.weight": SUMS}, {}, "not an importance matrix: it has no tensor named *.in_sum2"),
        ({"a.in_sum2": SUMS.astype(np.float16), "a.counts": COUNTS}, {}, "a.in_sum2 is of type F16, expected F32"),
        ({"a.in_sum2": SUMS, "a.counts": np.ones(3, np.float32)}, {}, "a has 16 values and 3 counts"),
        ({"a.in_sum2": SUMS * np.nan, "a.counts": COUNTS}, {}, "16 of 16 values of a are not finite; make it again"),
        ({"a.in_sum2": -SUMS, "a.counts": COUNTS}, {}, "a holds negative values, expected sums of squares"),
        ({"a.in_sum2": SUMS, "a.counts": -COUNTS}, {}, "a holds negative values, expected sums of squares"),
        ({"a.in_sum2": SUMS, "a.counts": COUNTS * np.inf}, {}, "a count of a is not a number of rows"),
        ({"a\nb.counts": COUNTS}, {}, "a tensor is named 'a\\nb', expected printable text; make the file again"),
        (GOOD, {"chunk_size": None}, "imatrix.chunk_size is None, expected a number of at least 1"),
        (GOOD, {"chunk_size": 0}, "imatrix.chunk_size is 0, expected a number of at least 1"),
        (GOOD, {"chunk_count": "9"}, "imatrix.chunk_count is '9', expected a number of at least 0"),
        (GOOD, {"datasets": None}, "imatrix.datasets is missing or no list of texts; make it again"),
        (GOOD, {"datasets": [1, 2]}, "imatrix.datasets is missing or no list of texts; make it again"),
    ],
)  # fmt: skip
def test_gguf(tensors: dict[str, NDArray], keys: dict[str, object], expected: str, tmp_path: Path) -> None:
    assert read_imatrix(write(tmp_path / "good.gguf", GOOD)).entries
    assert expected in refusal(write(tmp_path / "x.gguf", tensors, **keys))


def test_a_model_is_no_importance_matrix(sample: Collected) -> None:
    assert refusal(sample.file).endswith("it has no tensor named *.in_sum2, and general.type is 'model'")


def test_a_gguf_cut_anywhere(sample: Collected, tmp_path: Path) -> None:
    data, last = sample.path.read_bytes(), gguf.GGUFReader(sample.path).tensors[-1]
    for length in np.linspace(4, last.data_offset + last.n_bytes - 1, 60).astype(int):
        (tmp_path / "cut.gguf").write_bytes(data[:length])
        assert refusal(tmp_path / "cut.gguf")


def test_an_array_longer_than_the_file(tmp_path: Path) -> None:
    key = struct.pack("<Q8sIIQ", 8, b"datasets", gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT8, 2**40)
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key)
    assert refusal(tmp_path / "x.gguf") == "damaged or cut short: the header reaches to byte 57 of 56"


def test_a_dat_cut_or_altered_anywhere(sample: Collected, tmp_path: Path) -> None:
    write_imatrix(tmp_path / "whole.dat", sample.matrix)
    data, random = (tmp_path / "whole.dat").read_bytes(), np.random.default_rng(3)
    end = len(data) - len(sample.matrix.datasets[-1].encode()) - 8
    for length in random.integers(0, end, 60):
        (tmp_path / "cut.dat").write_bytes(data[:length])
        assert refusal(tmp_path / "cut.dat")
    for position in random.integers(0, len(data), 200):
        altered = bytearray(data)
        altered[position] ^= 1 << random.integers(8)
        (tmp_path / "altered.dat").write_bytes(altered)
        try:
            read_imatrix(tmp_path / "altered.dat")
        except ImatrixError as error:
            assert "\n" not in str(error)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere.gguf") == "cannot be read: No such file or directory"
    assert refusal(SAMPLE) == "cannot be read: Is a directory"


def test_a_tensor_without_data() -> None:
    nothing = Entry(np.zeros((1, 8), np.float32), np.array([0]))
    matrix = ImportanceMatrix({"a": Entry(SUMS, np.array([1, 1])), "b": nothing}, 64, 1, origin="x.gguf")
    for name in ("b", "blk.0.c.weight"):
        assert name not in matrix
        with pytest.raises(ImatrixError, match=f"^x.gguf: has no data for {name}; collect with more text"):
            matrix.importance_of(name)
    with pytest.raises(
        ImatrixError, match=r"^x.gguf: has 16 values for a, expected 1 × 8; it was made for another model"
    ):
        matrix.importance_of("a", (20, 8))


def test_matrices_of_two_models() -> None:
    one = ImportanceMatrix({"a": Entry(SUMS, np.array([1, 1]))}, 64, 1, origin="x.gguf")
    two = ImportanceMatrix({"a": Entry(SUMS[:1], np.array([1]))}, 64, 1, origin="y.gguf")
    with pytest.raises(
        ImatrixError, match=r"^y.gguf: has 8 values for a, expected 16 as in x.gguf; combine matrices of"
    ):
        combine([one, two])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x.npz", r"x.npz: ends in '.npz', expected a name in .gguf or .dat"),
        ("x.gguf", r"x.gguf: not written: the importance matrix has no data for any tensor"),
        ("no/x.dat", r"x.dat: cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_written(name: str, expected: str, tmp_path: Path) -> None:
    counts = np.array([0 if name == "x.gguf" else 1])
    matrix = ImportanceMatrix({"a": Entry(SUMS[:1], counts)}, 64, 1)
    with pytest.raises(ConversionError, match=expected):
        write_imatrix(tmp_path / name, matrix)
    assert list(tmp_path.iterdir()) == []
