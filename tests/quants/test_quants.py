"""Every type against ggml: bytes, values, and which blocks count as overflowed; from one thread and from several."""

from __future__ import annotations

import ctypes
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import llvmlite.binding
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray
from quants.difficult import (
    EXTREME,
    IMPORTANCE,
    MODEST,
    ROW,
    Floats,
    any_bits,
    constant,
    even,
    heavy_tailed,
    huge_importance,
    importances,
    invented,
    matrices,
    mean_activations,
    normal,
    positive,
    zero,
)

from converter.quants import QUANT_TYPES, QuantType, ggml, kernel

Bytes = NDArray[np.uint8]

# --- ggml, called without any code of ours ---------------------------------------------------------------------------

GGML = ctypes.CDLL(str(ggml.library_path()))
GGML.ggml_quantize_chunk.argtypes = (
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
)  # fmt: skip
GGML.ggml_quantize_chunk.restype = ctypes.c_size_t
GGML.ggml_quantize_requires_imatrix.argtypes = (ctypes.c_int,)
GGML.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
GGML.ggml_validate_row_data.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
GGML.ggml_validate_row_data.restype = ctypes.c_bool


def ggml_bytes(quant: QuantType, rows: Floats, importance: Floats | None = None) -> Bytes:
    """``ggml_quantize_chunk`` row after row, as llama.cpp's tools call it."""
    out = np.zeros((len(rows), rows.shape[1] // quant.block_size * quant.block_bytes), np.uint8)
    weights = None if importance is None else importance.ctypes.data
    for i in range(len(rows)):
        size = GGML.ggml_quantize_chunk(
            quant.ggml_type, rows.ctypes.data, out.ctypes.data, i * rows.shape[1], 1, rows.shape[1], weights
        )
        assert size == out.shape[1]
    return out


def ggml_values(quant: QuantType, data: Bytes) -> Floats:
    """``dequantize_row_*``, the exported functions of ggml."""
    out = np.zeros((len(data), data.shape[1] // quant.block_bytes * quant.block_size), np.float32)
    own = {"f16": "ggml_fp16_to_fp32_row", "bf16": "ggml_bf16_to_fp32_row"}
    name = own.get(quant.name, f"dequantize_row_{quant.name.replace('_k', '_K')}")
    getattr(GGML, name)(ctypes.c_void_p(data.ctypes.data), ctypes.c_void_p(out.ctypes.data), ctypes.c_int64(out.size))
    return out


def ggml_accepts(quant: QuantType, data: Bytes) -> bool:
    return bool(GGML.ggml_validate_row_data(quant.ggml_type, data.ctypes.data, data.nbytes))


# --- tests -----------------------------------------------------------------------------------------------------------

OWN = [name for name, quant in QUANT_TYPES.items() if quant.module is not None]
WEIGHTED = [name for name, quant in QUANT_TYPES.items() if quant.weighted is not None]
KERNELS = [(name, "") for name in OWN if name != "f32"] + [(name, "_weighted") for name in WEIGHTED]
THROUGH_GGML = [name for name in QUANT_TYPES if name not in OWN]
# ggml spends 4 to 18 seconds on the tables of these before the first block; their layouts are checked below.
SLOW_TABLES = ("iq1_s", "iq1_m", "iq2_xs", "iq2_s")

each_kernel = pytest.mark.parametrize(("name", "suffix"), KERNELS, ids=[name + suffix for name, suffix in KERNELS])


def kernel_of(name: str, suffix: str) -> kernel.BlockKernel:
    quant = QUANT_TYPES[name]
    module = import_module(f"converter.quants.{quant.weighted if suffix else quant.module}")
    own: kernel.BlockKernel = getattr(module, f"quantize_{name}{suffix}")
    return own


def fresh_kernel(name: str, suffix: str) -> kernel.BlockKernel:
    """A kernel that is not compiled yet."""
    own = kernel_of(name, suffix)
    return kernel.BlockKernel(own.body, own.elements, own.size, own.row_sums)


@pytest.mark.parametrize("name", OWN)
def test_own_kernels_give_ggmls_bytes(name: str) -> None:
    quant = QUANT_TYPES[name]

    @settings(deadline=None, max_examples=30)
    @given(matrices(MODEST + EXTREME) | invented)
    def check(rows: Floats) -> None:
        np.testing.assert_array_equal(quant.quantize(rows), ggml_bytes(quant, rows))

    check()


@pytest.mark.parametrize("name", WEIGHTED)
def test_own_kernels_give_ggmls_bytes_with_importance(name: str) -> None:
    quant = QUANT_TYPES[name]

    @settings(deadline=None, max_examples=30)
    @given(matrices(MODEST + EXTREME) | invented, importances)
    def check(rows: Floats, importance: Floats) -> None:
        np.testing.assert_array_equal(quant.quantize(rows, None, importance), ggml_bytes(quant, rows, importance))

    check()


@each_kernel
def test_own_kernels_on_each_kind_of_row(name: str, suffix: str) -> None:
    """Enough rows of one kind that every lane and every remainder of the vector loops sees them."""
    quant, rng = QUANT_TYPES[name], np.random.default_rng(7)
    for kind in MODEST + EXTREME:
        rows = np.stack([kind(rng) for _ in range(17 if suffix else 101)])
        for weigh in IMPORTANCE + 4 * (huge_importance,) if suffix else (None,):
            importance = weigh(rng) if weigh else None
            expected = ggml_bytes(quant, rows, importance)
            np.testing.assert_array_equal(quant.quantize(rows, None, importance), expected, kind.__name__)


def test_types_require_importance_as_in_ggml() -> None:
    required = {name for name, quant in QUANT_TYPES.items() if GGML.ggml_quantize_requires_imatrix(quant.ggml_type)}
    assert {name for name, quant in QUANT_TYPES.items() if quant.requires_importance} == required


@pytest.mark.parametrize("name", [name for name, quant in QUANT_TYPES.items() if name not in SLOW_TABLES])
def test_types_ignore_importance_as_in_ggml(name: str) -> None:
    quant, rng = QUANT_TYPES[name], np.random.default_rng(15)
    rows = np.stack([normal(rng) for _ in range(4)])
    first, second = (ggml_bytes(quant, rows, mean_activations(rng)) for _ in range(2))
    assert np.array_equal(first, second) == quant.ignores_importance


@each_kernel
def test_ordinary_rows_are_not_left_to_ggml(name: str, suffix: str) -> None:
    quant, rng, own = QUANT_TYPES[name], np.random.default_rng(11), kernel_of(name, suffix)
    rows = np.stack([kind(rng) for _ in range(40) for kind in (normal, heavy_tailed, constant, zero, positive)])
    out = np.zeros((len(rows), quant.row_bytes(ROW)), np.uint8)
    for importance in (even(rng), mean_activations(rng)) if suffix else (None,):
        assert len(own(rows, out, importance)) == 0


@each_kernel
@pytest.mark.parametrize("n", [1, 2, 3])
def test_rows_that_end_within_a_kernels_block(name: str, suffix: str, n: int) -> None:
    """A kernel runs on several blocks at once; a matrix may have any number of them, in rows of any number."""
    quant, rng = QUANT_TYPES[name], np.random.default_rng(12)
    for blocks in (1, 3, 5):
        row_length = blocks * (quant.block_size if quant.block_size > 1 else 32)
        rows = rng.standard_normal((n, row_length)).astype(np.float32)
        importance = rng.uniform(0, 2, row_length).astype(np.float32) if suffix else None
        out = np.full((n + 1, quant.row_bytes(row_length)), 0xA5, np.uint8)
        quant.quantize(rows, out[:n], importance)
        np.testing.assert_array_equal(out[:n], ggml_bytes(quant, rows, importance))
        assert (out[n] == 0xA5).all()


@pytest.mark.parametrize("name", [name for name in THROUGH_GGML if name not in SLOW_TABLES])
def test_other_types_give_ggmls_bytes(name: str) -> None:
    quant, rng = QUANT_TYPES[name], np.random.default_rng(1)
    rows = np.stack([normal(rng), heavy_tailed(rng)])
    importance = rng.uniform(0.1, 2, ROW).astype(np.float32)
    np.testing.assert_array_equal(quant.quantize(rows, None, importance), ggml_bytes(quant, rows, importance))
    if not quant.requires_importance:
        np.testing.assert_array_equal(quant.quantize(rows), ggml_bytes(quant, rows))


@pytest.mark.parametrize("name", OWN)
def test_importance_gives_ggmls_bytes(name: str) -> None:
    quant, rng = QUANT_TYPES[name], np.random.default_rng(2)
    rows = np.stack([kind(rng) for kind in MODEST])
    importance = rng.uniform(0, 2, ROW).astype(np.float32)
    np.testing.assert_array_equal(quant.quantize(rows, None, importance), ggml_bytes(quant, rows, importance))


@pytest.mark.parametrize("name", [name for name in QUANT_TYPES if name != "f32"])
def test_dequantize_gives_ggmls_values(name: str) -> None:
    """Any finite block, not only those a quantizer makes."""
    quant, rng = QUANT_TYPES[name], np.random.default_rng(3)
    data = rng.integers(0, 256, (300, quant.row_bytes(ROW)), np.uint8)
    data = data[[quant.overflowed(row[np.newaxis]) == 0 for row in data]]
    if not len(data):  # a row of 512 halves rarely is finite by chance
        data = quant.quantize(np.stack([any_bits(rng) * np.float32(2.0**-113) for _ in range(300)]))
    ours = quant.dequantize(data)
    assert ours.shape == (len(data), ROW)
    np.testing.assert_array_equal(ours.view(np.uint32), ggml_values(quant, data).view(np.uint32))


@pytest.mark.parametrize("name", [name for name in OWN if name not in ("f32", "f16", "bf16")])
def test_a_processor_without_wide_registers_gives_the_same_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quant, rng = QUANT_TYPES[name], np.random.default_rng(13)
    data = quant.quantize(np.stack([normal(rng), heavy_tailed(rng)]))
    own = getattr(import_module(f"converter.quants.{quant.dequantizer}"), f"dequantize_{name}")
    fresh, out = kernel.Decoder(own.body, own.size, own.elements), np.zeros((2, ROW), np.float32)
    monkeypatch.setattr(kernel.llvm, "get_host_cpu_name", lambda: "generic")
    monkeypatch.setattr(kernel.llvm, "get_host_cpu_features", llvmlite.binding.FeatureMap)
    fresh(data, out)
    np.testing.assert_array_equal(out, ggml_values(quant, data))


@pytest.mark.parametrize("name", [name for name in OWN if name not in ("f32", "f16", "bf16", "mxfp4")])
def test_dequantize_of_a_scale_that_is_no_number(name: str) -> None:
    """A file from a stranger: infinities and NaN come out where ggml has them."""
    quant, rng = QUANT_TYPES[name], np.random.default_rng(16)
    data = quant.quantize(np.stack([normal(rng) for _ in range(2)]))
    blocks = data.reshape(-1, quant.block_bytes)
    for field in quant.fields:
        blocks[::3, field.offset : field.offset + 2] = np.frombuffer(np.uint16(0xFC00).tobytes(), np.uint8)
        blocks[1::3, field.offset : field.offset + 2] = np.frombuffer(np.uint16(0x7E01).tobytes(), np.uint8)
    ours = quant.dequantize(data)
    assert np.isnan(ours).any()
    np.testing.assert_array_equal(ours, ggml_values(quant, data))


def test_dequantize_f32_is_the_same_bits() -> None:
    rows = any_bits(np.random.default_rng(4))[np.newaxis]
    np.testing.assert_array_equal(QUANT_TYPES["f32"].dequantize(rows.view(np.uint8)), rows)


@pytest.mark.parametrize("name", QUANT_TYPES)
def test_overflowed_counts_the_blocks_that_ggml_rejects(name: str) -> None:
    quant, rng = QUANT_TYPES[name], np.random.default_rng(5)
    data = rng.integers(0, 256, (2, 4 * quant.row_bytes(ROW)), np.uint8)
    data[:, :: quant.block_bytes] |= rng.choice(np.array([0, 255], np.uint8), data[:, :: quant.block_bytes].shape)
    rejected = [block for block in data.reshape(-1, quant.block_bytes) if not ggml_accepts(quant, block)]
    assert quant.overflowed(data) == len(rejected)


@pytest.mark.parametrize("name", ["f16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q6_k"])
def test_a_weight_too_large_overflows(name: str) -> None:
    quant = QUANT_TYPES[name]
    rows = np.zeros((2, ROW), np.float32)
    rows[1, 40], rows[1, 300] = 1e10, -1e10
    data = quant.quantize(rows)
    assert quant.overflowed(data) == 2
    assert quant.overflowed(data[:1]) == 0
    assert [ggml_accepts(quant, row) for row in data] == [True, False]


# Between them they use every operation and every search; compiling for narrow registers takes long.
NARROW = [(name, "") for name in ("f16", "bf16", "q8_0", "q4_1", "q5_0", "mxfp4", "tq1_0", "q3_k", "q6_k")]
NARROW += [(name, "_weighted") for name in ("q4_k", "q5_0", "iq4_xs")]


@pytest.mark.parametrize(("name", "suffix"), NARROW)
def test_a_processor_without_wide_registers_gives_the_same_bytes(
    name: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quant, rng = QUANT_TYPES[name], np.random.default_rng(9)
    rows = np.stack([kind(rng) for kind in MODEST + EXTREME])
    importance = mean_activations(rng) if suffix else None
    fresh = fresh_kernel(name, suffix)
    monkeypatch.setattr(kernel.llvm, "get_host_cpu_name", lambda: "generic")
    monkeypatch.setattr(kernel.llvm, "get_host_cpu_features", llvmlite.binding.FeatureMap)
    expected = ggml_bytes(quant, rows, importance)
    out = np.zeros_like(expected)
    done = np.ones(len(rows), np.bool_)
    done[fresh(rows, out, importance)] = False
    np.testing.assert_array_equal(out[done], expected[done])


@pytest.mark.parametrize("name", ["f16", "bf16"])
@pytest.mark.parametrize("row_length", [1, 31, 33, 100])
def test_rows_that_end_within_a_vector(name: str, row_length: int) -> None:
    quant, rng = QUANT_TYPES[name], np.random.default_rng(10)
    rows = np.stack([any_bits(rng)[:row_length] for _ in range(3)])
    np.testing.assert_array_equal(quant.quantize(rows), ggml_bytes(quant, rows))


@each_kernel
def test_threads_on_tiles_give_the_same_bytes(name: str, suffix: str) -> None:
    quant, rng = QUANT_TYPES[name], np.random.default_rng(6)
    tiles = [np.stack([normal(rng) for _ in range(32)]) for _ in range(12)]
    importance = even(rng) if suffix else None
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda tile: quant.quantize(tile, None, importance), tiles))
    for tile, data in zip(tiles, results, strict=True):
        np.testing.assert_array_equal(data, ggml_bytes(quant, tile, importance))


@pytest.mark.parametrize(("name", "suffix"), [("q4_0", ""), ("q6_k", ""), ("q5_0", "_weighted")])
def test_threads_may_share_the_first_call(name: str, suffix: str) -> None:
    """Which compiles."""
    quant, rng, fresh = QUANT_TYPES[name], np.random.default_rng(14), fresh_kernel(name, suffix)
    rows, importance = normal(rng)[np.newaxis], even(rng) if suffix else None
    outs = [np.zeros((1, quant.row_bytes(ROW)), np.uint8) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda out: fresh(rows, out, importance), outs))
    for out in outs:
        np.testing.assert_array_equal(out, ggml_bytes(quant, rows, importance))


def test_the_gil_is_released_while_a_kernel_runs() -> None:
    """Another thread goes on, every millisecond, during one call of some thirty milliseconds."""
    quant, rows = QUANT_TYPES["q6_k"], np.ones((16, 1 << 20), np.float32)
    out = quant.quantize(rows)
    worker = threading.Thread(target=quant.quantize, args=(rows, out))
    turns = 0
    worker.start()
    while worker.is_alive():
        time.sleep(0.001)
        turns += 1
    assert turns > 5


@pytest.mark.parametrize("name", OWN)
def test_quantize_fills_the_array_given(name: str) -> None:
    quant = QUANT_TYPES[name]
    rows = normal(np.random.default_rng(8))[np.newaxis]
    rows.flags.writeable = False
    whole = np.full((3, quant.row_bytes(ROW)), 0xA5, np.uint8)
    assert quant.quantize(rows, whole[1:2]).base is whole
    np.testing.assert_array_equal(whole[1:2], ggml_bytes(quant, rows))
    assert (whole[::2] == 0xA5).all()


@pytest.mark.parametrize("name", QUANT_TYPES)
def test_no_rows_give_no_bytes(name: str) -> None:
    quant = QUANT_TYPES[name]
    data = np.empty((0, quant.row_bytes(ROW)), np.uint8)
    if name not in SLOW_TABLES:
        quant.quantize(np.empty((0, ROW), np.float32), data, np.ones(ROW, np.float32))
    assert quant.dequantize(data).shape == (0, ROW)
    assert quant.overflowed(data) == 0
