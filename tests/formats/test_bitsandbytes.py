"""Weights in bitsandbytes' layouts: byte for byte what it and transformers make of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from converter.errors import RecipeError
from converter.formats.bitsandbytes import NF4, SCHEMES, quantization_config
from converter.quants.encoding import WeightTooLarge

ROWS, COLUMNS = 48, 192
DTYPES = {"U8": np.uint8, "I8": np.int8, "F32": np.float32}


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float32]:
    """Ordinary weights of many magnitudes, zeros, ties between levels, and one column that stands out."""
    random = np.random.default_rng(3)
    values = random.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    values *= np.float32(10.0) ** random.integers(-6, 4, (ROWS, 1)).astype(np.float32)
    values[0], values[1, :64], values[2] = 0, 0, 3.5
    levels = torch.tensor(NF4)
    values[3, :15] = ((levels[1:] + levels[:-1]) / 2).numpy()
    values[3, 15:64] = 1
    values[4] = np.arange(COLUMNS) - 95.5
    values[5:30] = torch.from_numpy(values[5:30]).bfloat16().float().numpy()  # whose shares of 127 are often halves
    values[:, 7] *= 50
    return values


def planes(method: str, rows: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
    """What is stored for these rows, constants included, by name."""
    scheme = SCHEMES[method]
    encoded = [(scheme.encoding.stored("weight", rows.shape), scheme.encoding.encode(rows))]
    for planned in scheme.constants("weight", rows.shape):
        encoded.append((planned.stored, planned.encoding.encode(np.array([planned.target.values], np.float32))))
    return {
        stored.name: data.view(DTYPES[stored.dtype]).reshape(stored.shape)
        for tensors, arrays in encoded
        for stored, data in zip(tensors, arrays, strict=True)
    }


def test_four_bits_are_the_library_s(rows: NDArray[np.float32]) -> None:
    from bitsandbytes.functional import QuantState, quantize_4bit

    weight = torch.from_numpy(rows).bfloat16()
    codes, state = quantize_4bit(weight, quant_type="nf4")
    expected = {f"weight.{name}": tensor.numpy() for name, tensor in state.as_dict(packed=True).items()}
    expected["weight"] = codes.numpy()
    found = planes("bnb_4bit", rows)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, name)
    stored = {name: torch.from_numpy(array) for name, array in found.items() if name != "weight"}
    read = QuantState.from_dict(stored, torch.device("cpu"))
    assert (read.blocksize, read.dtype, tuple(read.shape)) == (64, torch.bfloat16, rows.shape)


def test_eight_bits_are_the_library_s(rows: NDArray[np.float32]) -> None:
    import bitsandbytes

    linear = bitsandbytes.nn.Linear8bitLt(COLUMNS, ROWS, bias=False, has_fp16_weights=False)
    linear.weight = bitsandbytes.nn.Int8Params(torch.from_numpy(rows), requires_grad=False, has_fp16_weights=False)
    expected = linear.to("cpu").state_dict()
    found = planes("bnb_8bit", rows)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor.numpy(), name)


@pytest.mark.parametrize("method", SCHEMES)
def test_tiles_are_those_rows_of_the_whole(method: str, rows: NDArray[np.float32]) -> None:
    encoding = SCHEMES[method].encoding
    for part, whole in zip(encoding.encode(rows[5:20].copy()), encoding.encode(rows), strict=True):
        np.testing.assert_array_equal(part, whole[5:20])


@pytest.mark.parametrize("bits", [4, 8])
def test_configuration_is_transformers_s(bits: int) -> None:
    from transformers import BitsAndBytesConfig

    four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
    arguments = four if bits == 4 else {"load_in_8bit": True}
    expected = BitsAndBytesConfig(llm_int8_skip_modules=["lm_head"], **arguments).to_dict()
    written = quantization_config(bits, ["lm_head", r"re:.*\.experts\."])
    assert json.loads(json.dumps(written)) == json.loads(json.dumps(expected, default=str))


def test_weights_beyond_the_type_are_refused(rows: NDArray[np.float32]) -> None:
    huge = rows.copy()
    huge[9, 9] = 3.4e38
    for scheme in SCHEMES.values():
        with pytest.raises(WeightTooLarge):
            scheme.encoding.encode(huge)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RecipeError, match="96 weights are not a multiple of bitsandbytes' block of 64"):
        SCHEMES["bnb_4bit"].encoding.stored("weight", (2, 96))
