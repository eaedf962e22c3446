"""What is read of a PyTorch file is what ``torch.load(weights_only=True)`` makes of it, bit for bit."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from converter.checkpoints import open_checkpoint
from converter.checkpoints.names import without_wrappers
from converter.checkpoints.pytorch import read_tensors
from converter.checkpoints.strided import StridedTensor
from converter.sources.source_file import SourceFile

AssertReads = Callable[..., None]
both = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


def saved(path: Path, content: Any, *, legacy: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def views() -> dict[str, torch.Tensor]:
    """Tensors that do not own all of their memory, or not in order."""
    torch.manual_seed(0)
    big, cube = torch.randn(130, 170), torch.randn(6, 20, 30)
    return {
        "whole": big,
        "transposed": big.t(),
        "rows": big[5:100],
        "columns": big[:, 7:60],
        "steps": big[5:120:3, 7:160:2],
        "column": big[:, 3],
        "middle": cube.transpose(1, 2),
        "turned": cube.permute(2, 0, 1),
        "expanded": torch.randn(5).expand(4, 5),
        "half": big.half().t()[3:],
        "bfloat": big.bfloat16().t(),
        "long": torch.randn(3, 300_000).t(),
        "wide": torch.randn(40_000, 7).t(),
    }


@both
@pytest.mark.parametrize("name", views())
def test_views(tmp_path: Path, assert_reads: AssertReads, name: str, *, legacy: bool) -> None:
    tensor = views()[name]
    path = saved(tmp_path / "x.bin", {"first": torch.ones(3), name: tensor}, legacy=legacy)
    expected = torch.load(path, weights_only=True)[name]
    found = read_tensors(SourceFile(path))[name]
    assert isinstance(found, StridedTensor) == (not expected.is_contiguous())
    assert_reads(found, expected)
    bits = expected.contiguous().view(torch.int32 if found.dtype == "F32" else torch.int16).numpy()
    np.testing.assert_array_equal(
        found.read_stored(0, found.rows), bits.view(f"u{bits.itemsize}").reshape(found.rows, found.row_length)
    )


DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "C64": torch.complex64,
}  # fmt: skip
#: Types without a storage of their own, which only the newer layout can hold.
NEWER = {
    "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64, "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
}  # fmt: skip


@both
def test_every_type(tmp_path: Path, *, legacy: bool) -> None:
    kinds = DTYPES if legacy else DTYPES | NEWER
    content = {
        name: torch.randint(0, 2, (3, 5 * kind.itemsize), dtype=torch.uint8).view(kind) for name, kind in kinds.items()
    }
    found = read_tensors(SourceFile(saved(tmp_path / "x.bin", content, legacy=legacy)))
    assert found.keys() == content.keys()
    for name, tensor in content.items():
        assert (found[name].dtype, found[name].shape, found[name].nbytes) == (name, tuple(tensor.shape), tensor.nbytes)
        assert (
            found[name].file.read_bytes(found[name].offset, tensor.nbytes) == tensor.view(torch.uint8).numpy().tobytes()
        )


@both
@pytest.mark.parametrize("shape", [(), (1,), (7,), (0,), (0, 5), (5, 0), (3, 5), (2, 3, 5), (4, 1, 1, 9)], ids=str)
def test_every_shape(tmp_path: Path, shape: tuple[int, ...], *, legacy: bool) -> None:
    tensor = torch.randn(shape)
    found = read_tensors(SourceFile(saved(tmp_path / "x.bin", {"x": tensor}, legacy=legacy)))["x"]
    assert found.shape == shape
    np.testing.assert_array_equal(found.read_rows(0, found.rows).reshape(shape), tensor.numpy())


class ByPython2(dict[str, torch.Tensor]):
    """Pickled as Python 2 pickles an OrderedDict."""

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, ([[name, value] for name, value in self.items()],)


def linear() -> torch.nn.Linear:
    torch.manual_seed(1)
    return torch.nn.Linear(4, 3)


@both
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "epoch": 3, "loss": torch.tensor(0.5), "optimizer": {"state": {0: {"step": 1}}}},
        lambda state: {"state_dict": state, "args": [1, 2.5, None, True, (1, "a", b"b"), torch.Size([2])]},
        lambda state: {"module": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
        lambda state: OrderedDict((name, torch.nn.Parameter(value)) for name, value in state.items()),
        ByPython2,
    ],
    ids=["plain", "model", "state_dict", "module", "compiled", "parameters", "by Python 2"],
)
def test_wrappings(tmp_path: Path, wrap: Callable[..., Any], *, legacy: bool) -> None:
    state = linear().state_dict()
    found = without_wrappers(read_tensors(SourceFile(saved(tmp_path / "x.bin", wrap(state), legacy=legacy))))
    assert found.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(
            found[name].read_rows(0, found[name].rows).reshape(value.shape), value.detach().numpy()
        )


def test_tensors_with_attributes(tmp_path: Path) -> None:
    weight, tensor = linear().weight, torch.randn(3, 4)
    weight.tensor_parallel = tensor.tensor_parallel = True  # type: ignore[attr-defined]
    found = read_tensors(SourceFile(saved(tmp_path / "x.bin", {"w": weight, "t": tensor}, legacy=False)))
    np.testing.assert_array_equal(found["w"].read_rows(0, 3), weight.detach().numpy())
    np.testing.assert_array_equal(found["t"].read_rows(0, 3), tensor.numpy())


@both
@pytest.mark.parametrize(
    ("config", "kept", "tied"),
    [
        ("{}", False, True),
        ('{"tie_word_embeddings": true}', False, True),
        ('{"tie_word_embeddings": false}', True, False),
    ],
)
def test_an_output_matrix_that_is_the_embedding(
    tmp_path: Path, config: str, *, legacy: bool, kept: bool, tied: bool
) -> None:
    """Kept once, as save_pretrained does in safetensors, unless the configuration says that there are two."""
    embedding = torch.randn(9, 4)
    (tmp_path / "config.json").write_text(config)
    state = {"model.embed_tokens.weight": embedding, "lm_head.weight": embedding, "norm": torch.ones(4)}
    saved(tmp_path / "pytorch_model.bin", state, legacy=legacy)
    opened = open_checkpoint(tmp_path)
    assert ("lm_head.weight" in opened.tensors) == kept
    assert opened.config["tie_word_embeddings"] == tied


def test_views_of_an_old_storage(tmp_path: Path) -> None:
    """PyTorch before 0.4 saved a part of a storage as a view of its own; made from a file of today's."""
    values = torch.arange(12, dtype=torch.float32)
    path = saved(tmp_path / "x.bin", {"x": values[4:8]}, legacy=True)
    content = path.read_bytes()
    # (…, count 12, view None), offset 4 becomes (…, count 12, view ("v", 4, 8)), offset 0
    before, after = b"K\x0cNtq\x07QK\x04", b"K\x0cX\x01\x00\x00\x00vK\x04K\x08\x87tq\x07QK\x00"
    assert content.count(before) == 1
    path.write_bytes(content.replace(before, after))
    expected = torch.load(path, weights_only=True)["x"]
    found = read_tensors(SourceFile(path))["x"]
    np.testing.assert_array_equal(found.read_rows(0, 1)[0], expected.numpy())
    np.testing.assert_array_equal(expected.numpy(), values[4:8].numpy())


class Counted(SourceFile):
    """A file that notes what is read of it."""

    def __init__(self, path: Path) -> None:
        self.reads: list[tuple[int, int]] = []
        super().__init__(path)

    def read_into(self, offset: int, target: np.ndarray[Any, Any]) -> None:
        self.reads.append((offset, target.nbytes))
        super().read_into(offset, target)


@both
def test_files_far_away(tmp_path: Path, *, legacy: bool) -> None:
    """A look at a file on another machine is a request: opening needs both ends of it, a tensor what belongs to it."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "far").mkdir()
    content = {str(number): torch.full((1000, 100), float(number)) for number in range(40)}
    file = Counted(saved(tmp_path / "far" / "x", content, legacy=legacy))
    file.reads.clear()
    with open_checkpoint(tmp_path, {"pytorch_model.bin": file}) as checkpoint:
        assert all(offset < 2**17 or offset > file.size - 2**17 for offset, _ in file.reads)
        assert sum(count for _, count in file.reads) < 2**18
        file.reads.clear()
        np.testing.assert_array_equal(checkpoint.tensors["7"].read_rows(3, 5), np.full((2, 100), 7, np.float32))
        assert len(file.reads) == 2
        assert max(offset for offset, _ in file.reads) - min(offset for offset, _ in file.reads) < 2000


@both
def test_memory_and_modules(tmp_path: Path, *, legacy: bool) -> None:
    """Opening reads no weight, reading takes what was asked for, and neither imports PyTorch."""
    (tmp_path / "config.json").write_text("{}")
    saved(tmp_path / "pytorch_model.bin", {"a": torch.ones(4000, 2000), "b": torch.ones(2000, 1000).t()}, legacy=legacy)
    # What a process needs to import is counted by none of this.
    opened = open_checkpoint(tmp_path)
    tracemalloc.start()
    try:
        with open_checkpoint(tmp_path) as opened:
            assert tracemalloc.get_traced_memory()[1] < 2**20
            tracemalloc.reset_peak()
            for name in "ab":
                opened.tensors[name].read_rows(0, 10)
            assert tracemalloc.get_traced_memory()[1] < tracemalloc.get_traced_memory()[0] + 3 * 2**20
    finally:
        tracemalloc.stop()
    script = (
        "import sys, pathlib; from converter.checkpoints import open_checkpoint; "
        f"opened = open_checkpoint(pathlib.Path({str(tmp_path)!r})); opened.tensors['b'].read_rows(0, 5); "
        "print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
