"""Columns without importance: they count alike, they are told, and every other block is ggml's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkpoint_builder import write_model
from command_line import convert as convert_command
from command_line import refusal
from gguf import GGMLQuantizationType, GGUFReader
from imatrix.ggml_oracle import ggml_bytes
from llama_cpp_oracle import tensors
from numpy.typing import NDArray

from converter import convert
from converter.imatrix import Entry, ImatrixError, ImportanceMatrix, combine, read_imatrix, write_imatrix
from converter.quants import QUANT_TYPES
from converter.recipes.weights import neutral

WEIGHTED = [name for name, kind in QUANT_TYPES.items() if not kind.ignores_importance]

#: Of these, ggml keeps the values of a block without importance.
KEPT = ("q4_1", "q5_1", "iq3_s")

RANDOM = np.random.default_rng(5)


def relative_error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("smallest", [0, 1e-39], ids=["zero", "denormal"])
@pytest.mark.parametrize("name", WEIGHTED)
def test_runs_without_importance(name: str, smallest: float) -> None:
    """A run that shares a scale is lost in ggml and is not here; without such a run nothing changes."""
    kind = QUANT_TYPES[name]
    rows = (RANDOM.standard_normal((8, 2048)) * 0.02).astype(np.float32)
    given = (RANDOM.gamma(0.5, 1, 2048) + 1e-3).astype(np.float32)
    given[256 : 256 + kind.run] = given[1024:1536] = smallest
    given[2 * 256 + 1 : 2 * 256 + kind.run] = smallest  # one column short of a run
    ones = given.copy()
    ones[256 : 256 + kind.run] = ones[1024:1536] = 1
    weights, without = neutral(given[None], kind)
    assert int(without.sum()) * kind.run == 512 + kind.run
    found = kind.quantize(rows, importance=np.ascontiguousarray(weights[0]))
    assert found.tobytes() == ggml_bytes(kind.ggml_type, rows[None], ones[None])
    as_given = np.frombuffer(ggml_bytes(kind.ggml_type, rows[None], given[None]), np.uint8)
    blocks = [array.reshape(8, -1, kind.block_bytes) for array in (found, as_given)]
    touched = without[0].reshape(-1, kind.block_size // kind.run).any(axis=1)
    assert np.array_equal(blocks[0][:, ~touched], blocks[1][:, ~touched])
    values, lost = kind.dequantize(found), kind.dequantize(as_given.reshape(8, -1))
    for columns in (slice(256, 256 + kind.run), slice(1024, 1536)):
        assert relative_error(values[:, columns], rows[:, columns]) < 0.55
        if not smallest:
            assert (relative_error(lost[:, columns], rows[:, columns]) > 0.7) is (name not in KEPT)


def test_nothing_lacks() -> None:
    given = np.ones((3, 512), np.float32)
    weights, without = neutral(given, QUANT_TYPES["q4_k"])
    assert weights is given
    assert not without.any()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("zeros") / "model", "llama")


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("zeros") / "mixture", "mixtral")


def measured(model: Path, **changed: Entry) -> ImportanceMatrix:
    """Random importance of every matrix of the model, but for the tensors given, whose dots are underscores."""
    file = model.with_suffix(".gguf")
    if not file.exists():
        convert(model, "f32", file, verify="none", catalogue="")
    entries = {}
    for tensor in GGUFReader(file).tensors:
        shape = tensor.data.shape
        if len(shape) > 1:
            count = shape[0] if len(shape) == 3 else 1
            sums = (RANDOM.gamma(0.5, 20, (count, shape[-1])) + 1).astype(np.float32)
            entry = changed.get(tensor.name.replace(".", "_"), Entry(sums, np.full(count, 512)))
            entries[tensor.name] = entry
    return ImportanceMatrix(entries, 512, 1)


def without(columns: int, zeros: slice) -> Entry:
    sums = (RANDOM.gamma(0.5, 20, (1, columns)) + 1).astype(np.float32)
    sums[:, zeros] = 0
    return Entry(sums, np.array([512]))


def assert_bytes(output: Path, model: Path, importance: dict[str, NDArray[np.float32]]) -> set[str]:
    """Each weighted tensor has ggml's bytes; the types that occurred."""
    source = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(model.with_suffix(".gguf")).tensors}
    kinds = set()
    for name, (kind, _, data) in tensors(output).items():
        type_name = GGMLQuantizationType(kind).name.lower()
        if name in importance and QUANT_TYPES[type_name].block_size > 1:
            rows = source[name].reshape(-1, *source[name].shape[-2:])
            assert data == ggml_bytes(kind, rows, importance[name].reshape(len(rows), -1)), name
            kinds.add(type_name)
    return kinds


@pytest.mark.parametrize("suffix", [".gguf", ".dat"])
@pytest.mark.parametrize("method", ["q4_k_m", "q4_0", "iq3_xxs"])
def test_a_stretch_of_zeros(model: Path, method: str, suffix: str, tmp_path: Path) -> None:
    gate, down = without(256, slice(32, 64)), without(512, slice(0, 256))
    matrix = measured(model, blk_0_ffn_gate_weight=gate, blk_1_ffn_down_weight=down)
    path = tmp_path / f"imatrix{suffix}"
    write_imatrix(path, matrix)
    result = convert(model, method, tmp_path / "out.gguf", imatrix=[path], verify="none", catalogue="")
    read = read_imatrix(path)
    importance = {name: read.importance_of(name) for name in read.entries}
    importance["blk.1.ffn_down.weight"][:, :256] = 1
    said = "256 of 512 columns of blk.1.ffn_down.weight"
    gate_type = result.tensor_types["blk.0.ffn_gate.weight"]
    if gate_type != "q4_k":  # whose scale of 32 columns does not depend on their importance
        importance["blk.0.ffn_gate.weight"][:, 32:64] = 1
        said = f"32 of 256 columns of blk.0.ffn_gate.weight, {said}"
    expected = f"{path}: holds no importance for {said}; all weights count the same there"
    assert [warning for warning in result.warnings if "importance" in warning] == [expected]
    assert gate_type in assert_bytes(tmp_path / "out.gguf", model, importance)


def test_a_gguf_source_is_told_too(model: Path, tmp_path: Path) -> None:
    write_imatrix(tmp_path / "x.gguf", measured(model, blk_0_attn_q_weight=without(256, slice(64, 128))))
    source = model.with_suffix(".gguf")
    result = convert(source, "q4_0", tmp_path / "out.gguf", imatrix=[tmp_path / "x.gguf"], verify="none", catalogue="")
    assert result.warnings == (
        f"{tmp_path}/x.gguf: holds no importance for 64 of 256 columns of blk.0.attn_q.weight; all weights count the "
        "same there",
    )


def test_a_type_without_weights_lacks_none(model: Path, tmp_path: Path) -> None:
    write_imatrix(tmp_path / "x.gguf", measured(model, blk_0_attn_q_weight=without(256, slice(None))))
    result = convert(model, "q8_0", tmp_path / "out.gguf", imatrix=[tmp_path / "x.gguf"], verify="none", catalogue="")
    assert result.warnings == ()


@pytest.mark.parametrize("suffix", [".gguf", ".dat"])
def test_nothing_but_zeros(model: Path, suffix: str, tmp_path: Path) -> None:
    path, nothing = tmp_path / f"imatrix{suffix}", without(256, slice(None))
    write_imatrix(path, measured(model, blk_0_attn_k_weight=nothing, blk_1_ffn_up_weight=nothing))
    run = ("--model", model, "--method", "q4_k_m", "--verify", "none", "--output", tmp_path / "x.gguf")
    assert refusal(*run, "--imatrix", path) == (
        f"{path}: holds nothing but zeros for blk.0.attn_k.weight, blk.1.ffn_up.weight; make it again, or pass "
        "--exclude-weights with each name"
    )
    assert not (tmp_path / "x.gguf").exists()
    outcome = convert_command(
        *run, "--imatrix", path, "--exclude-weights", "blk.0.attn_k.weight", "--exclude-weights", "blk.1.ffn_up.weight"
    )
    assert outcome.code == 0, outcome


def test_another_matrix_fills_the_gap(model: Path, tmp_path: Path) -> None:
    zeros = measured(model, blk_0_attn_k_weight=without(256, slice(None)))
    whole = measured(model)
    (first, second) = (tmp_path / "zeros.gguf", tmp_path / "whole.dat")
    write_imatrix(first, zeros)
    write_imatrix(second, whole)
    result = convert(model, "q4_k_m", tmp_path / "out.gguf", imatrix=[first, second], verify="none", catalogue="")
    assert not [warning for warning in result.warnings if "importance" in warning]
    both = combine([read_imatrix(first), read_imatrix(second)])
    assert_bytes(tmp_path / "out.gguf", model, {name: both.importance_of(name) for name in both.entries})
    with pytest.raises(ImatrixError, match=f"^{first} \\+ {first}: holds nothing but zeros for blk.0.attn_k.weight; "):
        convert(model, "q4_k_m", tmp_path / "x.gguf", imatrix=[first, first], verify="none", catalogue="")


@pytest.mark.parametrize("form", ["counted", "not counted", "dat"])
def test_experts_that_were_never_chosen(mixture: Path, form: str, tmp_path: Path) -> None:
    """Whose slices are zeros, with or without a count of zero; in the older format there is one count for all."""
    source = {tensor.name: tensor.data.shape for tensor in GGUFReader(measured_file(mixture)).tensors}
    name = "blk.0.ffn_gate_exps.weight"
    experts, _, columns = source[name]
    sums = (RANDOM.gamma(0.5, 20, (experts, columns)) + 1).astype(np.float32)
    sums[1] = sums[experts - 1] = 0
    sums[0, :64] = 0
    counts = np.full(experts, 512)
    if form == "not counted":
        counts[[1, experts - 1]] = 0
    entry = Entry(sums, counts) if form != "dat" else Entry(sums.reshape(1, -1), np.array([512]))
    path = tmp_path / ("imatrix.dat" if form == "dat" else "imatrix.gguf")
    write_imatrix(path, measured(mixture, **{name.replace(".", "_"): entry}))
    result = convert(mixture, "q4_0", tmp_path / "out.gguf", imatrix=[path], verify="none", catalogue="")
    assert [warning for warning in result.warnings if "importance" in warning] == [
        f"{path}: holds no importance for 2 of {experts} experts and 64 of {experts * columns} columns of {name}; all "
        "weights count the same there"
    ]
    read = read_imatrix(path)
    importance = {tensor: read.importance_of(tensor, source[tensor]) for tensor in read.entries}
    importance[name][[1, experts - 1]] = 1
    importance[name][0, :64] = 1
    assert "q4_0" in assert_bytes(tmp_path / "out.gguf", mixture, importance)


def measured_file(model: Path) -> Path:
    """The model as a float32 GGUF."""
    measured(model)
    return model.with_suffix(".gguf")
