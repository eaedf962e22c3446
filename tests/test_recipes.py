"""Types and bytes of every tensor equal to llama.cpp's two-step route, whatever the method and the rows."""

from __future__ import annotations

from pathlib import Path

import llama_cpp_oracle
import pytest
from checkpoint_builder import write_model

from converter import convert
from converter.recipes import METHODS

SAMPLE = Path(__file__).parent / "fixtures" / "sample"

#: Rows that are multiples of 256; of 32 only; of neither.
SHAPES = {
    "multiples of 256": {"hidden_size": 256, "intermediate_size": 512},
    "multiples of 32": {"hidden_size": 96, "intermediate_size": 160},
    "multiples of 4": {"hidden_size": 80, "intermediate_size": 116},
}


def check_all_methods(model: Path, folder: Path, *, pure: bool) -> None:
    f32 = convert(model, "f32", folder / "reference.gguf", verify="none").output
    for method in METHODS.values():
        ours = convert(model, method.name, folder / f"{method.name}.gguf", pure=pure, verify="none")
        theirs = folder / "two-step.gguf"
        llama_cpp_oracle.quantize(f32, theirs, method.file_type, pure=pure)
        assert llama_cpp_oracle.tensors(ours.output) == llama_cpp_oracle.tensors(theirs), method.name


@pytest.mark.parametrize("pure", [False, True], ids=["mixed", "pure"])
def test_the_sample_model(tmp_path: Path, pure: bool) -> None:
    check_all_methods(SAMPLE, tmp_path, pure=pure)


@pytest.mark.parametrize("pure", [False, True], ids=["mixed", "pure"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_every_kind(tmp_path: Path, shape: str, tied: bool, pure: bool) -> None:
    model = write_model(tmp_path / "model", "llama", tie_word_embeddings=tied, **SHAPES[shape])
    check_all_methods(model, tmp_path, pure=pure)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_sources_in_shards(tmp_path: Path, dtype: str) -> None:
    model = write_model(tmp_path / "model", "qwen3", dtype=dtype, shard="1MB")
    assert len(list(model.glob("*.safetensors"))) > 1
    check_all_methods(model, tmp_path, pure=False)
