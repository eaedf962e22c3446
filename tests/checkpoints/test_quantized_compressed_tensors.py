"""Every format against the library compressed-tensors, which writes the tensors and dequantizes them for comparison."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from compressed_tensors.compressors import (
    BaseCompressor,
    FloatQuantizationCompressor,
    IntQuantizationCompressor,
    MXFP4PackedCompressor,
    MXFP8QuantizationCompressor,
    NVFP4PackedCompressor,
    PackedQuantizationCompressor,
)
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

from converter.checkpoints import Checkpoint, Mxfp4Tensor

Quantized = Callable[[Any, dict[str, torch.Tensor]], Checkpoint]
NAME = "layers.0.q_proj"
ROWS, COLUMNS = 40, 256

PACKED, INT, FLOAT = PackedQuantizationCompressor, IntQuantizationCompressor, FloatQuantizationCompressor
VARIANTS: list[tuple[type[BaseCompressor], str, dict[str, Any]]] = [
    *(
        (PACKED, "pack-quantized", {"num_bits": bits, "symmetric": symmetric, **strategy})
        for bits in (2, 3, 4, 8)
        for symmetric in (True, False)
        for strategy in ({"strategy": "group", "group_size": 64}, {"strategy": "channel"})
    ),
    (PACKED, "pack-quantized", {"num_bits": 4, "strategy": "tensor"}),
    *(
        (INT, "int-quantized", {"num_bits": 8, "symmetric": symmetric, **strategy})
        for symmetric in (True, False)
        for strategy in ({"strategy": "group", "group_size": 32}, {"strategy": "channel"}, {"strategy": "tensor"})
    ),
    *(
        (FLOAT, "float-quantized", {"num_bits": 8, "type": "float", **strategy})
        for strategy in (
            {"strategy": "tensor"},
            {"strategy": "channel"},
            {"strategy": "group", "group_size": 128},
            {"strategy": "block", "block_structure": [8, 128]},
        )
    ),
]


def grid(arguments: dict[str, Any]) -> tuple[int, ...]:
    match arguments["strategy"]:
        case "group":
            return ROWS, COLUMNS // arguments["group_size"]
        case "channel":
            return ROWS, 1
        case "block":
            return ROWS // arguments["block_structure"][0], COLUMNS // arguments["block_structure"][1]
    return (1,)


def written(
    compressor: type[BaseCompressor], arguments: dict[str, Any], dtype: torch.dtype
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """A matrix as the library stores it, and what the library makes of that."""
    random = torch.Generator().manual_seed(1)
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**arguments))
    shape, half = grid(arguments), 2 ** (arguments["num_bits"] - 1)
    state = {
        "weight": torch.randn((ROWS, COLUMNS), generator=random) * half / 100,
        "weight_scale": (torch.rand(shape, generator=random) * 0.02 + 1e-3).to(dtype),
    }
    if not arguments.get("symmetric", True):
        state["weight_zero_point"] = torch.randint(-half, half, shape, generator=random, dtype=torch.int8)
    stored = compressor.compress(state, scheme)
    return stored, compressor.decompress(stored, scheme)["weight"]


def settings(form: str, *arguments: dict[str, Any]) -> dict[str, Any]:
    groups = {f"group_{index}": {"targets": ["Linear"], "weights": each} for index, each in enumerate(arguments)}
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": groups}


def named(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{NAME}.{name}": tensor for name, tensor in stored.items()}


@pytest.mark.parametrize(("compressor", "form", "arguments"), VARIANTS, ids=str)
def test_every_variant(
    quantized: Quantized,
    assert_reads: Callable[..., None],
    compressor: type[BaseCompressor],
    form: str,
    arguments: dict[str, Any],
) -> None:
    stored, expected = written(compressor, arguments, torch.float32)
    with quantized(settings(form, arguments), named(stored)) as opened:
        assert list(opened.tensors) == [f"{NAME}.weight"]
        assert opened.nbytes == sum(tensor.nbytes for tensor in stored.values())
        assert_reads(opened.tensors[f"{NAME}.weight"], expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_scales_of_16_bits(quantized: Quantized, dtype: torch.dtype) -> None:
    """The library's result is rounded to the scales' type; ours is what it was rounded from."""
    arguments = {"num_bits": 4, "symmetric": False, "strategy": "group", "group_size": 32}
    stored, expected = written(PACKED, arguments, dtype)
    with quantized(settings("pack-quantized", arguments), named(stored)) as opened:
        read = torch.from_numpy(opened.tensors[f"{NAME}.weight"].read_rows(0, ROWS))
    assert expected.dtype == dtype
    assert torch.equal(read.to(dtype), expected)


@pytest.mark.parametrize(("rows", "columns"), [(37, 250), (9, 3000), (1, 8), (600, 1500)])
def test_shapes_that_leave_words_half_full(
    quantized: Quantized, assert_reads: Callable[..., None], rows: int, columns: int
) -> None:
    random = torch.Generator().manual_seed(2)
    codes = torch.randint(-8, 8, (rows, columns), generator=random, dtype=torch.int8)
    zeros = torch.randint(-8, 8, (rows, 1), generator=random, dtype=torch.int8)
    scale = torch.rand((rows, 1), generator=random)
    stored = {
        "weight_packed": pack_to_int32(codes, 4), "weight_scale": scale, "weight_shape": torch.tensor([rows, columns]),
        "weight_zero_point": pack_to_int32(zeros, 4, packed_dim=0),
    }  # fmt: skip
    arguments = {"num_bits": 4, "symmetric": False, "strategy": "channel"}
    with quantized(settings("pack-quantized", arguments), named(stored)) as opened:
        assert_reads(opened.tensors[f"{NAME}.weight"], (codes.float() - zeros.float()) * scale)


def test_columns_quantized_in_another_order(quantized: Quantized, assert_reads: Callable[..., None]) -> None:
    random = torch.Generator().manual_seed(3)
    codes = torch.randint(-8, 8, (16, 96), generator=random, dtype=torch.int8)
    scale = torch.rand((16, 3), generator=random)
    of_column = torch.arange(96, dtype=torch.int32)[torch.randperm(96, generator=random)] // 32
    stored = {
        "weight_packed": pack_to_int32(codes, 4), "weight_scale": scale, "weight_shape": torch.tensor([16, 96]),
        "weight_g_idx": of_column,
    }  # fmt: skip
    arguments = {"num_bits": 4, "strategy": "group", "group_size": 32, "actorder": "group"}
    with quantized(settings("pack-quantized", arguments), named(stored)) as opened:
        assert_reads(opened.tensors[f"{NAME}.weight"], codes.float() * scale[:, of_column.long()])


def test_mxfp4(quantized: Quantized, assert_reads: Callable[..., None]) -> None:
    scheme = QuantizationScheme(
        targets=["Linear"], weights=QuantizationArgs(num_bits=4, type="float", strategy="group", group_size=32)
    )
    random = torch.Generator().manual_seed(4)
    stored = {
        "weight_packed": torch.randint(0, 256, (ROWS, COLUMNS // 2), generator=random, dtype=torch.uint8),
        "weight_scale": torch.randint(110, 140, (ROWS, COLUMNS // 32), generator=random, dtype=torch.uint8),
    }
    expected = MXFP4PackedCompressor.decompress(stored, scheme)["weight"]
    arguments = {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32}
    with quantized(settings("mxfp4-pack-quantized", arguments), named(stored)) as opened:
        assert isinstance(opened.tensors[f"{NAME}.weight"], Mxfp4Tensor)
        assert_reads(opened.tensors[f"{NAME}.weight"], expected)


def test_nvfp4(quantized: Quantized) -> None:
    arguments = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**arguments))
    random = torch.Generator().manual_seed(5)
    scale = (torch.rand((ROWS, COLUMNS // 16), generator=random) * 400).to(torch.float8_e4m3fn)
    stored = {
        "weight_packed": torch.randint(0, 256, (ROWS, COLUMNS // 2), generator=random, dtype=torch.uint8),
        "weight_scale": scale,
        "weight_global_scale": torch.tensor([3217.5]),
        "input_global_scale": torch.tensor([12.0]),
    }
    expected = NVFP4PackedCompressor.decompress(stored, scheme)["weight"]
    with quantized(settings("nvfp4-pack-quantized", arguments), named(stored)) as opened:
        assert list(opened.tensors) == [f"{NAME}.weight"]
        read = torch.from_numpy(opened.tensors[f"{NAME}.weight"].read_rows(0, ROWS))
        part = opened.tensors[f"{NAME}.weight"].read_rows(3, 7, slice(17, 100))
    assert torch.equal(read.to(expected.dtype), expected)
    np.testing.assert_array_equal(part, read[3:7, 17:100])


def test_mxfp8(quantized: Quantized, assert_reads: Callable[..., None]) -> None:
    arguments = {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 32}
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**arguments))
    random = torch.Generator().manual_seed(6)
    stored = {
        "weight": torch.randn((ROWS, COLUMNS), generator=random).to(torch.float8_e4m3fn),
        "weight_scale": torch.randint(110, 140, (ROWS, COLUMNS // 32), generator=random, dtype=torch.uint8),
    }
    expected = MXFP8QuantizationCompressor.decompress(stored, scheme)["weight"]
    with quantized(settings("mxfp8-quantized", arguments), named(stored)) as opened:
        assert_reads(opened.tensors[f"{NAME}.weight"], expected)


def test_two_schemes_in_one_checkpoint(quantized: Quantized, assert_reads: Callable[..., None]) -> None:
    four = {"num_bits": 4, "strategy": "group", "group_size": 64}
    eight = {"num_bits": 8, "type": "float", "strategy": "channel"}
    tensors, expected = {}, {}
    for name, compressor, arguments in [("a", PACKED, four), ("b", FLOAT, eight)]:
        stored, expected[name] = written(compressor, arguments, torch.float32)
        tensors |= {f"{name}.{part}": tensor for part, tensor in stored.items()}
    with quantized(settings("mixed-precision", four, eight), {**tensors, "k.k_scale": torch.ones(1)}) as opened:
        assert set(opened.tensors) == {"a.weight", "b.weight"}
        for name in ("a", "b"):
            assert_reads(opened.tensors[f"{name}.weight"], expected[name])


FOUR = {"num_bits": 4, "symmetric": False, "strategy": "group", "group_size": 64}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"weight_scale": None}, "has no"),
        ({"weight_shape": None}, "has no"),
        ({"weight_zero_point": None}, "has no"),
        ({"weight_shape": torch.tensor([ROWS, COLUMNS * 2])}, "fits none"),
        ({"weight_shape": torch.tensor([-1, COLUMNS])}, "fits none"),
        ({"weight_shape": torch.tensor([0, 0])}, "fits none"),
        ({"weight_shape": torch.tensor([1])}, "expected (2)"),
        ({"weight_scale": torch.ones(ROWS, 3)}, "fits none"),
        ({"weight_zero_point": torch.zeros(ROWS, 4, dtype=torch.int32)}, "expected (5, 4)"),
        ({"weight_g_idx": torch.zeros(3, dtype=torch.int32)}, "expected (256)"),
        ({"weight": torch.zeros(1)}, "which is there too"),
        ({"weight_packed": None, "weight_shape": None, "weight_zero_point": None}, f"has no {NAME}.weight beside"),
        ({"weight_packed": None, "weight": torch.zeros(ROWS, COLUMNS, dtype=torch.int8)}, "expected one"),
    ],
)
def test_parts_that_do_not_fit(
    quantized: Quantized, refusal: Callable[..., str], change: dict[str, torch.Tensor | None], expected: str
) -> None:
    stored, _ = written(PACKED, FOUR, torch.float32)
    tensors = {name: tensor for name, tensor in {**stored, **change}.items() if tensor is not None}
    groups = [FOUR, {"num_bits": 8, "strategy": "channel"}, {"num_bits": 8, "strategy": "tensor"}]
    assert expected in refusal(quantized, settings("mixed-precision", *groups), named(tensors))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": "marlin-24"}, "'marlin-24'"),
        ({"sparsity_config": {"format": "sparse-24-bitmask"}}, "'sparse-24-bitmask'"),
        ({"transform_config": {"config_groups": {"R1": {}}}}, "transform_config"),
        ({"config_groups": None}, "config_groups"),
        ({"config_groups": {"g": 1}}, "config_groups"),
        ({"config_groups": {"g": {"weights": 4}}}, "weights"),
        ({"config_groups": {"g": {"weights": {**FOUR, "num_bits": 9}}}}, "num_bits"),
        ({"config_groups": {"g": {"weights": {**FOUR, "type": "complex"}}}}, "'complex'"),
        ({"config_groups": {"g": {"weights": {**FOUR, "strategy": "token"}}}}, "'token'"),
        ({"config_groups": {"g": {"weights": {**FOUR, "group_size": 0}}}}, "group_size 0"),
        ({"config_groups": {"g": {"format": "marlin-24", "weights": FOUR}}}, "'marlin-24'"),
    ],
)
def test_settings_that_are_not_read(
    quantized: Quantized, refusal: Callable[..., str], change: dict[str, Any], expected: str
) -> None:
    message = refusal(quantized, {**settings("pack-quantized", FOUR), **change}, {"x": torch.ones(1)})
    assert "quantization_config" in message or "config_groups" in message
    assert expected in message


def test_a_group_that_does_not_exist(quantized: Quantized, refusal: Callable[..., str]) -> None:
    stored, _ = written(PACKED, FOUR, torch.float32)
    stored["weight_g_idx"] = torch.full((COLUMNS,), math.ceil(COLUMNS / 64), dtype=torch.int32)
    with quantized(settings("pack-quantized", FOUR), named(stored)) as opened:
        assert "names group 4, expected 0 to 3" in refusal(opened.tensors[f"{NAME}.weight"].read_rows, 0, 1)
