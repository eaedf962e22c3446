"""What is read equals what the safetensors library wrote, and what torch makes of it, bit for bit."""

from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file

from converter.checkpoints import Checkpoint, open_checkpoint

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SHAPES = [(), (1,), (7,), (0,), (0, 5), (5, 0), (3, 5), (33, 65), (2, 3, 5), (4, 1, 1, 9)]
WIDE = [(3, 300_001), (700, 1001), (5, 40_000)]  # rows longer than a chunk, many rows of one, rows worth skipping in


def bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values).view(np.uint32)


def written(directory: Path, tensors: dict[str, torch.Tensor]) -> Checkpoint:
    save_file(tensors, directory / "model.safetensors")
    return open_checkpoint(directory)


def widened(directory: Path, name: str) -> NDArray[np.float32]:
    """The library's own reading, widened by torch."""
    with safe_open(directory / "model.safetensors", "pt") as file:
        tensor: torch.Tensor = file.get_tensor(name)
    return tensor.float().numpy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape(checkpoint_directory: Path, dtype: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    with written(checkpoint_directory, {"before": torch.ones(3), "x": torch.randn(shape).to(DTYPES[dtype])}) as opened:
        tensor = opened.tensors["x"]
        expected = widened(checkpoint_directory, "x").reshape(tensor.rows, tensor.row_length)
        assert (tensor.dtype, tensor.shape) == (dtype, shape)
        assert tensor.nbytes == expected.size * DTYPES[dtype].itemsize
        assert opened.nbytes == tensor.nbytes + 12
        read = tensor.read_rows(0, tensor.rows)
    assert read.dtype == np.float32
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(bits(read), bits(expected))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", WIDE, ids=str)
def test_runs_of_rows_and_columns(checkpoint_directory: Path, dtype: str, shape: tuple[int, int]) -> None:
    torch.manual_seed(2)
    rows, length = shape
    with written(checkpoint_directory, {"x": torch.randn(shape).to(DTYPES[dtype])}) as opened:
        expected = widened(checkpoint_directory, "x")
        for start, stop in [(0, rows), (1, rows - 1), (2, 3), (rows, rows)]:
            for columns in [None, slice(None), slice(0, 1), slice(3, 8), slice(1, None), slice(length // 2, length)]:
                read = opened.tensors["x"].read_rows(start, stop, columns)
                np.testing.assert_array_equal(bits(read), bits(expected[start:stop, columns or slice(None)]))


def test_every_bfloat16(checkpoint_directory: Path) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    with written(checkpoint_directory, {"x": every}) as opened:
        read = opened.tensors["x"].read_rows(0, 1)[0]
    np.testing.assert_array_equal(bits(read), bits(widened(checkpoint_directory, "x")))


def test_every_float16(checkpoint_directory: Path) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.float16)
    tensors = {"all": every, "finite": every[torch.isfinite(every)]}
    with written(checkpoint_directory, tensors) as opened:
        for name in tensors:
            read = opened.tensors[name].read_rows(0, 1)[0]
            expected = widened(checkpoint_directory, name)
            number = ~np.isnan(expected)
            np.testing.assert_array_equal(np.isnan(read), ~number)
            np.testing.assert_array_equal(bits(read)[number], bits(expected)[number])


def test_out_is_filled_and_returned(checkpoint_directory: Path) -> None:
    with written(checkpoint_directory, {"x": torch.randn(6, 10).bfloat16()}) as opened:
        tensor = opened.tensors["x"]
        out = np.full((2, 4), np.nan, np.float32)
        assert tensor.read_rows(1, 3, slice(2, 6), out) is out
        np.testing.assert_array_equal(out, widened(checkpoint_directory, "x")[1:3, 2:6])
        for unfit in (out.T, out.astype(np.float64), np.empty((4, 4), np.float32)[::2]):
            with pytest.raises(ValueError, match="out is"):
                tensor.read_rows(1, 3, slice(2, 6), unfit)


def test_rows_and_columns_outside_the_tensor(checkpoint_directory: Path) -> None:
    with written(checkpoint_directory, {"x": torch.randn(6, 10)}) as opened:
        tensor = opened.tensors["x"]
        for start, stop, columns in [
            (-1, 2, None),
            (3, 2, None),
            (0, 7, None),
            (0, 1, slice(0, 11)),
            (0, 1, slice(-2, 4)),
        ]:
            with pytest.raises(IndexError, match="of 6 × 10"):
                tensor.read_rows(start, stop, columns)
        with pytest.raises(ValueError, match="step"):
            tensor.read_rows(0, 1, slice(0, 4, 2))


def test_threads_share_a_file(checkpoint_directory: Path) -> None:
    torch.manual_seed(3)
    names = [f"{dtype}.{index}" for dtype in DTYPES for index in range(2)]
    tensors = {name: torch.randn(64, 9000).to(DTYPES[name.split(".")[0]]) for name in names}
    wrong: list[str] = []

    def check(name: str) -> None:
        for start in range(0, 64, 5):
            stop = min(start + 5, 64)
            if not np.array_equal(
                opened.tensors[name].read_rows(start, stop), tensors[name][start:stop].float().numpy()
            ):
                wrong.append(name)

    with written(checkpoint_directory, tensors) as opened:
        threads = [threading.Thread(target=check, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_memory_is_that_of_the_rows_asked_for(checkpoint_directory: Path) -> None:
    """A few rows, or columns, of a 64 MB tensor; numpy reports its arrays to tracemalloc."""
    shape = (4000, 8000)
    with written(checkpoint_directory, {"x": torch.zeros(shape, dtype=torch.bfloat16)}) as opened:
        tensor = opened.tensors["x"]
        for rows, columns in [
            (slice(0, 100), slice(0, 8000)),
            (slice(0, 4000), slice(10, 30)),
            (slice(1, 2), slice(0, 1)),
        ]:
            tracemalloc.start()
            read = tensor.read_rows(rows.start, rows.stop, columns)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert read.nbytes <= peak <= read.nbytes + 2**21
        assert str(opened.files[1].path) not in Path("/proc/self/maps").read_text()
