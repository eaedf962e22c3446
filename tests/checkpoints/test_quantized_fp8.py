"""FP8 against torch's own float8 types and transformers' dequantization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

from converter.checkpoints import Checkpoint, open_checkpoint

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
Quantized = Callable[[Any, dict[str, torch.Tensor]], Checkpoint]
NAME = "layers.0.q_proj.weight"


def codes(*shape: int, dtype: torch.dtype = E4M3) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 50).to(dtype)


def scales(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(2)) * 0.01 + 1e-4).to(dtype)


def by_definition(weight: torch.Tensor, scale: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """DeepSeek's ``weight_dequant``: every weight times the scale of its block, the last block cut short."""
    spread = scale.float().repeat_interleave(rows, -2).repeat_interleave(columns, -1)
    return weight.float() * spread[..., : weight.shape[-2], : weight.shape[-1]]


@pytest.mark.parametrize("dtype", [E4M3, E5M2], ids=str)
@pytest.mark.parametrize("scale_type", [torch.float32, torch.bfloat16], ids=str)
def test_blocks_as_transformers_scales_them(
    quantized: Quantized, assert_reads: Callable[..., None], dtype: torch.dtype, scale_type: torch.dtype
) -> None:
    weight, scale = codes(512, 384, dtype=dtype), scales(4, 3, dtype=scale_type)
    tensors = {"norm.weight": torch.ones(4), NAME: weight, f"{NAME}_scale_inv": scale}
    with quantized({"quant_method": "fp8", "weight_block_size": [128, 128]}, tensors) as opened:
        assert list(opened.tensors) == ["norm.weight", NAME]
        assert opened.nbytes == sum(tensor.nbytes for tensor in tensors.values())
        assert opened.tensors[NAME].nbytes == weight.nbytes + scale.nbytes
        assert_reads(opened.tensors[NAME], Fp8Dequantize(None)._dequantize_one(weight, scale, torch.float32))


@pytest.mark.parametrize("shape", [(300, 200), (128, 129), (64, 1000), (2, 130, 70)], ids=str)
def test_blocks_cut_short(quantized: Quantized, assert_reads: Callable[..., None], shape: tuple[int, ...]) -> None:
    weight = codes(*shape)
    scale = scales(*shape[:-2], -(-shape[-2] // 128), -(-shape[-1] // 128))
    with quantized({"quant_method": "fp8"}, {NAME: weight, f"{NAME}_scale_inv": scale}) as opened:
        assert_reads(opened.tensors[NAME], by_definition(weight, scale, 128, 128))


@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        ((64, 48), ()), ((64, 48), (1,)), ((64, 48), (1, 1)), ((64, 48), (64,)), ((64, 48), (64, 1)),
        ((3, 64, 48), (3,)), ((3, 64, 48), (3, 64, 1)), ((3, 64, 48), (3, 1, 48)), ((3, 64, 48), (1, 1, 1)),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("method", ["fp8", "fbgemm_fp8", "modelopt"])
def test_one_scale_for_a_matrix_a_row_or_a_column(
    quantized: Quantized, assert_reads: Callable[..., None], shape: tuple[int, ...], grid: tuple[int, ...], method: str
) -> None:
    weight, scale = codes(*shape), scales(*grid)
    settings = {"quant_method": method, "weight_block_size": None}
    with quantized(settings, {NAME: weight, f"{NAME}_scale": scale}) as opened:
        spread = scale.reshape(*grid, *[1] * (len(shape) - len(grid)))
        assert_reads(opened.tensors[NAME], weight.float() * spread)


@pytest.mark.parametrize("inner", [64, 48])
def test_experts_of_llama_4(quantized: Quantized, assert_reads: Callable[..., None], inner: int) -> None:
    """transformers' FbgemmFp8Llama4TextExperts: input by output, one scale for each output, in two shapes."""
    up, down = codes(3, 48, 2 * inner), codes(3, inner, 48)
    up_scale, down_scale = scales(3, 1, 2 * inner), scales(3, 48, 1)
    tensors = {
        "experts.gate_up_proj": up, "experts.gate_up_proj_scale": up_scale,
        "experts.down_proj": down, "experts.down_proj_scale": down_scale,
    }  # fmt: skip
    with quantized({"quant_method": "fbgemm_fp8"}, tensors) as opened:
        assert_reads(opened.tensors["experts.gate_up_proj"], up.float() * up_scale)
        assert_reads(opened.tensors["experts.down_proj"], down.float() * down_scale.transpose(1, 2))


@pytest.mark.parametrize("dtype", [E4M3, E5M2], ids=str)
def test_every_code(quantized: Quantized, dtype: torch.dtype) -> None:
    every = torch.arange(256, dtype=torch.uint8).view(dtype).reshape(16, 16)
    with quantized({"quant_method": "fp8"}, {NAME: every, f"{NAME}_scale_inv": torch.ones(1, 1)}) as opened:
        read = opened.tensors[NAME].read_rows(0, 16)
    expected = every.float().numpy()
    assert np.array_equal(np.signbit(read[~np.isnan(read)]), np.signbit(expected[~np.isnan(expected)]))
    np.testing.assert_array_equal(read, expected)


def test_scales_that_are_powers_of_two(quantized: Quantized, assert_reads: Callable[..., None]) -> None:
    weight = codes(256, 128)
    exponents = torch.arange(0, 256, 2, dtype=torch.uint8)[:128].reshape(32, 4)[:, :4].repeat(8, 1)
    settings = {"quant_method": "fp8", "weight_block_size": [1, 32]}
    for scale in (exponents, exponents.view(torch.float8_e8m0fnu)):
        with quantized(settings, {NAME: weight, f"{NAME}_scale_inv": scale}) as opened:
            powers = exponents.view(torch.float8_e8m0fnu).float()
            assert_reads(opened.tensors[NAME], by_definition(weight, powers, 1, 32))


def test_a_window_beyond_one_chunk(quantized: Quantized, assert_reads: Callable[..., None]) -> None:
    weight, scale = codes(260, 4000), scales(3, 32)
    with quantized({"quant_method": "fp8"}, {NAME: weight, f"{NAME}_scale_inv": scale}) as opened:
        assert_reads(opened.tensors[NAME], by_definition(weight, scale, 128, 128))


def test_names_of_other_exporters(quantized: Quantized, assert_reads: Callable[..., None]) -> None:
    weight, scale = codes(8, 16), scales(1, 1)
    tensors = {
        "wq.weight": weight, "wq.qscale_weight": scale[0, 0], "wq.qscale_act": scale[0, 0],
        "experts.gate_up_proj": weight[None], "experts.gate_up_proj_scale_inv": scale[None],
        "q_proj.input_scale": scale, "q_proj.activation_scale": scale, "self_attn.k_scale": scale[0],
        "router.per_expert_scale": scale,
    }  # fmt: skip
    with quantized({"quant_method": "fp8"}, tensors) as opened:
        assert set(opened.tensors) == {"wq.weight", "experts.gate_up_proj", "router.per_expert_scale"}
        assert_reads(opened.tensors["wq.weight"], weight.float() * scale)
        assert_reads(opened.tensors["experts.gate_up_proj"], (weight.float() * scale)[None])


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({NAME: codes(8, 8)}, "F8_E4M3 and has no scale"),
        ({f"{NAME}_scale_inv": scales(1, 1)}, f"has no {NAME} beside it"),
        ({f"{NAME}_scale": scales(1, 1)}, f"has no {NAME} beside it"),
        ({NAME: codes(8, 8), f"{NAME}_scale_inv": scales(2, 1)}, "blocks of 128 × 128"),
        ({NAME: codes(2, 8, 8), f"{NAME}_scale_inv": scales(3, 1, 1)}, "blocks of 128 × 128"),
        ({NAME: codes(8), f"{NAME}_scale_inv": scales(1)}, "blocks of 128 × 128"),
        ({NAME: codes(8, 8), f"{NAME}_scale_inv": scales(1, 1).double()}, "is of type F64, expected F32"),
        ({NAME: torch.ones(8, 8), f"{NAME}_scale_inv": scales(1, 1)}, "is of type F32, expected F8_E4M3"),
    ],
)
def test_parts_that_do_not_fit(
    quantized: Quantized, refusal: Callable[..., str], tensors: dict[str, torch.Tensor], expected: str
) -> None:
    assert expected in refusal(quantized, {"quant_method": "fp8"}, tensors)


@pytest.mark.parametrize("sizes", [[128], [128, 0], "128", [True, 1]])
def test_block_sizes_that_are_none(quantized: Quantized, refusal: Callable[..., str], sizes: object) -> None:
    settings = {"quant_method": "fp8", "weight_block_size": sizes}
    assert "weight_block_size" in refusal(quantized, settings, {"x": torch.ones(1)})


@pytest.mark.parametrize("settings", [{"quant_method": "hqq"}, {"quant_method": None}, {"bits": 4}, "fp8"])
def test_unknown_methods(quantized: Quantized, refusal: Callable[..., str], settings: object) -> None:
    message = refusal(quantized, settings, {"x": torch.ones(1)})
    assert "quantization_config" in message
    assert isinstance(settings, str) or "fp8, " in message


def test_the_text_part_of_a_multimodal_config(quantized: Quantized, refusal: Callable[..., str]) -> None:
    with quantized(None, {"x": torch.ones(1)}) as opened:
        directory = opened.directory
    (directory / "config.json").write_text('{"text_config": {"quantization_config": {"quant_method": "hqq"}}}')
    assert "'hqq'" in refusal(open_checkpoint, directory)
