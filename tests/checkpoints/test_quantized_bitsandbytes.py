"""NF4, FP4 and int8 against bitsandbytes, which quantizes the matrices and dequantizes them for comparison."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from bitsandbytes import functional
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute

from converter.checkpoints import Checkpoint

Quantized = Callable[[Any, dict[str, torch.Tensor]], Checkpoint]
NAME = "layers.0.q_proj.weight"
STATE = f"{NAME}.quant_state.bitsandbytes__nf4"
FOUR = {"quant_method": "bitsandbytes", "load_in_4bit": True}
EIGHT = {"quant_method": "bitsandbytes", "load_in_8bit": True}


def matrix(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def four_bits(
    weights: torch.Tensor, kind: str = "nf4", *, nested: bool = True, block: int = 64
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """A matrix as the library saves it, and what the library's portable code makes of that.

    Its vectorised code for processors gives the same where rows are whole blocks, and is wrong where they are not.
    """
    codes, state = functional.quantize_4bit(weights, blocksize=block, quant_type=kind, compress_statistics=nested)
    absmax = functional.dequantize_blockwise(state.absmax, state.state2) + state.offset if nested else state.absmax
    with torch.compiler.set_stance("force_eager"):
        expected = _dequantize_4bit_compute(codes.reshape(-1), absmax, state.code, block, state.shape, state.dtype)
    if weights.shape[-1] % block == 0:
        assert torch.equal(functional.dequantize_4bit(codes, state), expected)
    stored = {NAME: codes} | {f"{NAME}.{key}": part for key, part in state.as_dict(packed=True).items()}
    return stored, expected


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True], ids=["plain", "nested"])
@pytest.mark.parametrize("shape", [(64, 128), (9, 100), (700, 1000), (5, 3), (2, 6, 64)], ids=str)
def test_four_bits(
    quantized: Quantized, assert_reads: Callable[..., None], kind: str, nested: bool, shape: tuple[int, ...]
) -> None:
    stored, expected = four_bits(matrix(*shape), kind, nested=nested)
    with quantized(FOUR, {**stored, "norm.weight": torch.ones(4)}) as opened:
        assert set(opened.tensors) == {NAME, "norm.weight"}
        assert opened.nbytes == sum(tensor.nbytes for tensor in stored.values()) + 16
        assert_reads(opened.tensors[NAME], expected)


@pytest.mark.parametrize("block", [128, 4096])
def test_blocks_of_other_sizes(quantized: Quantized, assert_reads: Callable[..., None], block: int) -> None:
    stored, expected = four_bits(matrix(70, 192), block=block)
    with quantized({"load_in_4bit": True}, stored) as opened:
        assert_reads(opened.tensors[NAME], expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_weights_that_were_16_bits(quantized: Quantized, dtype: torch.dtype) -> None:
    """The library's result is rounded to the type that the weights had; ours is what it was rounded from."""
    stored, expected = four_bits(matrix(32, 256).to(dtype))
    with quantized(FOUR, stored) as opened:
        read = torch.from_numpy(opened.tensors[NAME].read_rows(0, 32))
    assert expected.dtype == dtype
    assert torch.equal(read.to(dtype), expected)


def test_codes_stored_as_other_numbers(quantized: Quantized, assert_reads: Callable[..., None]) -> None:
    stored, expected = four_bits(matrix(32, 64))
    stored[NAME] = stored[NAME].reshape(1, -1).view(torch.bfloat16).reshape(-1, 1)
    with quantized(FOUR, stored) as opened:
        assert_reads(opened.tensors[NAME], expected)


@pytest.mark.parametrize("shape", [(16, 32), (600, 1000)], ids=str)
def test_int8(quantized: Quantized, assert_reads: Callable[..., None], shape: tuple[int, int]) -> None:
    codes, absmax, _ = functional.int8_vectorwise_quant(matrix(*shape))
    base = NAME.removesuffix(".weight")
    stored = {NAME: codes, f"{base}.SCB": absmax, f"{base}.weight_format": torch.tensor(0, dtype=torch.uint8)}
    with quantized(EIGHT, stored) as opened:
        assert list(opened.tensors) == [NAME]
        assert opened.tensors[NAME].nbytes == codes.nbytes + absmax.nbytes
        assert_reads(opened.tensors[NAME], functional.int8_vectorwise_dequant(codes, absmax))


def state(**fields: Any) -> torch.Tensor:
    full = {"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [16, 64], "nested_blocksize": 256,
            "nested_dtype": "float32", "nested_offset": 0.1} | fields  # fmt: skip
    return torch.tensor(list(json.dumps(full).encode()), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({f"{NAME}.absmax": None}, f"has no {NAME}.absmax beside it"),
        ({f"{NAME}.quant_map": None}, "has no"),
        ({f"{NAME}.nested_absmax": None}, "has no"),
        ({f"{NAME}.nested_quant_map": None}, "has no"),
        ({NAME: None}, f"has no {NAME} beside it"),
        ({STATE: None}, "has no quant_state"),
        ({STATE: state(blocksize=63)}, "blocksize 63, expected one of 32"),
        ({STATE: state(nested_blocksize=True)}, "nested_blocksize True"),
        ({STATE: state(nested_offset=None)}, "nested_offset None"),
        ({STATE: state(nested_offset=float("nan"))}, "nested_offset nan"),
        ({STATE: state(shape=[16, -64])}, "shape [16, -64]"),
        ({STATE: state(shape=[16, 66])}, "has 512 bytes, expected 528"),
        ({STATE: state(quant_type="int4")}, "quant_type 'int4', expected nf4"),
        ({STATE: torch.zeros(70_000, dtype=torch.uint8)}, "expected at most 65536"),
        ({STATE: torch.zeros(7, dtype=torch.uint8)}, "is not valid JSON"),
        ({f"{NAME}.absmax": torch.zeros(15, dtype=torch.uint8)}, "expected (16)"),
        ({f"{NAME}.quant_map": torch.zeros(8)}, "expected (16)"),
    ],
)
def test_parts_that_do_not_fit(
    quantized: Quantized, refusal: Callable[..., str], change: dict[str, torch.Tensor | None], expected: str
) -> None:
    stored, _ = four_bits(matrix(16, 64))
    tensors = {name: tensor for name, tensor in {**stored, **change}.items() if tensor is not None}
    assert expected in refusal(quantized, FOUR, tensors)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"a.weight": torch.zeros(4, 4, dtype=torch.int8)}, "has no scale beside it"),
        ({"a.SCB": torch.zeros(4)}, "has no a.weight beside it"),
        ({"a.weight": torch.zeros(4, 4, dtype=torch.int8), "a.SCB": torch.zeros(3)}, "expected (4)"),
        (
            {"a.weight": torch.zeros(4, 4, dtype=torch.int8), "a.SCB": torch.zeros(4),
             "a.weight_format": torch.tensor(1, dtype=torch.uint8)},
            "tiled for a GPU",
        ),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit(
    quantized: Quantized, refusal: Callable[..., str], tensors: dict[str, torch.Tensor], expected: str
) -> None:
    assert expected in refusal(quantized, EIGHT, tensors)
