"""The packed layout against the library compressed-tensors, and its numbers against ggml's blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from numpy.typing import NDArray

from converter.errors import RecipeError
from converter.formats.compressed_tensors import GROUP, PACKED, PackedEncoding, quantization_config, shape_of
from converter.quants import QUANT_TYPES, ggml
from converter.quants.encoding import WeightTooLarge

ROWS, COLUMNS = 96, 160


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float32]:
    """Ordinary weights, and groups that are zero, tiny, huge, one-sided, constant or full of ties."""
    random = np.random.default_rng(7)
    values = random.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    scales = np.float32(10.0) ** random.integers(-9, 5, (ROWS, COLUMNS // GROUP, 1)).astype(np.float32)
    values = (values.reshape(ROWS, -1, GROUP) * scales).reshape(ROWS, COLUMNS)
    values[0], values[1], values[2], values[3] = 0, 1e-39, -3.25, np.abs(values[3])
    values[4], values[5] = -np.abs(values[5]), np.arange(COLUMNS) % 16 - 7.5
    values[6, :GROUP] = np.linspace(-8, 7, GROUP)
    return values


def planes(encoding: PackedEncoding, rows: NDArray[np.float32]) -> dict[str, torch.Tensor]:
    """What is stored for these rows, as torch sees it, by the names within a module."""
    dtypes = {"I32": np.int32, "F16": np.float16}
    return {
        stored.name: torch.from_numpy(data.view(dtypes[stored.dtype]).reshape(stored.shape))
        for stored, data in zip(encoding.stored("weight", rows.shape), encoding.encode(rows), strict=True)
    }


@pytest.mark.parametrize("method", ["q4_0", "q5_0", "q8_0"])
def test_symmetric_holds_the_numbers_of_ggml(method: str, rows: NDArray[np.float32]) -> None:
    encoding, kind = PACKED[method], QUANT_TYPES[method]
    blocks = np.empty((ROWS, kind.row_bytes(COLUMNS)), np.uint8)
    ggml.quantize(kind.ggml_type, rows, blocks, None)
    expected = np.empty_like(rows)
    ggml.dequantize(kind.ggml_type, blocks, expected)
    stored = planes(encoding, rows)
    integers = unpack_from_int32(stored["weight_packed"], encoding.bits, torch.Size(rows.shape)).numpy()
    scales = stored["weight_scale"].numpy().astype(np.float64).repeat(GROUP, axis=1)
    np.testing.assert_array_equal(integers.astype(np.float64) * scales, expected.astype(np.float64))


@pytest.mark.parametrize("method", ["q4_1", "q5_1"])
def test_asymmetric_is_what_the_library_makes(method: str, rows: NDArray[np.float32]) -> None:
    encoding = PACKED[method]
    args = QuantizationArgs(
        num_bits=encoding.bits, symmetric=False, strategy="group", group_size=GROUP, scale_dtype=torch.float16
    )
    weight = torch.from_numpy(rows)
    groups = weight.unflatten(1, (-1, GROUP))
    scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), args)
    compressor = BaseCompressor.get_value_from_registry("pack-quantized")
    state = {"weight": weight, "weight_scale": scale, "weight_zero_point": zero}
    expected = compressor.compress(state, QuantizationScheme(targets=["Linear"], weights=args))
    stored = planes(encoding, rows)
    assert stored.keys() == expected.keys() - {"weight_shape"}
    assert torch.equal(stored["weight_scale"], expected["weight_scale"].half())
    assert torch.equal(stored["weight_zero_point"], expected["weight_zero_point"])
    assert torch.equal(stored["weight_packed"], expected["weight_packed"])


@pytest.mark.parametrize("method", PACKED)
def test_tiles_are_those_rows_of_the_whole(method: str, rows: NDArray[np.float32]) -> None:
    encoding = PACKED[method]
    whole = encoding.encode(rows)
    for stored, part, all_of_it in zip(
        encoding.stored("weight", rows.shape), encoding.encode(rows[32:64].copy()), whole, strict=True
    ):
        assert all_of_it.nbytes == stored.nbytes(ROWS)
        np.testing.assert_array_equal(part, all_of_it[32 // stored.unit_rows : 64 // stored.unit_rows])


@pytest.mark.parametrize("method", PACKED)
def test_configuration_is_the_library_s(method: str) -> None:
    encoding = PACKED[method]
    written = quantization_config(encoding, ["lm_head"])
    config = QuantizationConfig.model_validate(written)
    (group,) = config.config_groups.values()
    assert isinstance(group, QuantizationScheme)
    assert (group.weights.num_bits, group.weights.symmetric) == (encoding.bits, encoding.symmetric)
    assert (config.format, config.quantization_status.value, config.ignore) == (
        "pack-quantized",
        "compressed",
        ["lm_head"],
    )
    kept = config.model_dump()
    assert {name: kept[name] for name in written if name not in ("config_groups", "dequantize")} == {
        name: value for name, value in written.items() if name not in ("config_groups", "dequantize")
    }


def test_shape_is_64_bit() -> None:
    (planned,) = shape_of("weight", (128256, 8192))
    (stored,) = planned.stored
    (data,) = planned.encoding.encode(np.array([planned.target.values], np.float32))
    assert (stored.name, stored.dtype, stored.nbytes(1)) == ("weight_shape", "I64", 16)
    assert data.view(np.int64).tolist() == [[128256, 8192]]


@pytest.mark.parametrize("method", PACKED)
def test_weights_beyond_float16_are_refused(method: str, rows: NDArray[np.float32]) -> None:
    huge = rows.copy()
    huge[3, 40] = 1e9
    with pytest.raises(WeightTooLarge):
        PACKED[method].encode(huge)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RecipeError, match="48 weights are not a multiple of the group of 32"):
        PACKED["q4_0"].stored("weight", (32, 48))
    with pytest.raises(RecipeError, match="48 rows are not a multiple of 32"):
        PACKED["q5_1"].stored("weight", (48, 32))
