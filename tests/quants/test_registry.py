"""The table of types against gguf's; what is refused; what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from converter.errors import RecipeError
from converter.quants import QUANT_TYPES, ggml

NEED_IMPORTANCE = ("iq1_s", "iq2_xxs", "iq2_xs")


def test_registry_agrees_with_gguf() -> None:
    for name, quant in QUANT_TYPES.items():
        ggml_type = gguf.GGMLQuantizationType[name.upper()]
        assert quant.ggml_type == ggml_type
        assert (quant.block_size, quant.block_bytes) == gguf.GGML_QUANT_SIZES[ggml_type]
        assert quant.bits_per_weight == 8 * quant.block_bytes / quant.block_size


def test_registry_has_every_type_that_ggml_quantizes() -> None:
    """What is left out stores integers, doubles, or activations during a matrix product."""
    left_out = {kind.name.lower() for kind in gguf.GGMLQuantizationType} - set(QUANT_TYPES)
    assert left_out == {"i8", "i16", "i32", "i64", "f64", "q8_1", "q8_k"}


def test_a_row_that_is_not_whole_blocks_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"^q4_0: rows of 100 elements are not a multiple of its block of 32; "):
        QUANT_TYPES["q4_0"].quantize(np.zeros((1, 100), np.float32))
    with pytest.raises(RecipeError, match=r"^q6_k: rows of 288 elements are not a multiple of its block of 256; "):
        QUANT_TYPES["q6_k"].row_bytes(288)


@pytest.mark.parametrize("name", NEED_IMPORTANCE)
def test_a_type_that_needs_importance_is_refused_without(name: str) -> None:
    with pytest.raises(RecipeError, match=f"^{name} cannot be made without an importance matrix; "):
        QUANT_TYPES[name].quantize(np.zeros((1, 512), np.float32))


@pytest.mark.parametrize(
    "rows",
    [np.zeros((2, 64)), np.zeros((64, 2), np.float32).T, np.zeros((2, 128), np.float32)[:, ::2]],
    ids=["float64", "transposed", "strided"],
)
def test_rows_of_another_layout_are_refused(rows: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="expected a C-contiguous float32 array"):
        QUANT_TYPES["q8_0"].quantize(rows)


@pytest.mark.parametrize("shape", [(1, 68), (2, 69), (2, 67), (3, 68)])
def test_an_output_of_another_shape_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"expected a C-contiguous uint8 array of shape \(2, 68\)"):
        QUANT_TYPES["q8_0"].quantize(np.zeros((2, 64), np.float32), np.zeros(shape, np.uint8))


def test_importance_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a C-contiguous float32 array of shape \(64,\)"):
        QUANT_TYPES["q4_0"].quantize(np.zeros((2, 64), np.float32), None, np.ones(32, np.float32))


def test_bytes_that_are_not_whole_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a C-contiguous uint8 array"):
        QUANT_TYPES["q8_0"].dequantize(np.zeros((2, 35), np.uint8))


def test_a_missing_ggml_library_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "llama_cpp"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "llama_cpp", raising=False)
    with pytest.raises(RecipeError, match="ggml's library is missing; reinstall llama-cpp-python"):
        ggml.library_path()
    (package / "__init__.py").unlink()
    package.rmdir()
    with pytest.raises(RecipeError, match="llama-cpp-python is not installed"):
        ggml.library_path()


def test_importing_the_registry_loads_neither_compiler_nor_ggml() -> None:
    code = (
        "import sys, converter.quants; "
        "assert not {'numba', 'llvmlite', 'llama_cpp', 'torch', 'gguf'} & set(sys.modules); "
        "from converter.quants import ggml; assert ggml.library.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
