"""Types and bytes of every tensor equal to llama.cpp's two-step route, whatever the method and the rows."""

from __future__ import annotations

from pathlib import Path

import llama_cpp_oracle
import pytest
from checkpoint_builder import write_model

from converter import convert
from converter.recipes import METHODS, Overrides

SAMPLE = Path(__file__).parent / "fixtures" / "sample"

#: Rows that are multiples of 256; of 32 only; of neither.
SHAPES = {
    "multiples of 256": {"hidden_size": 256, "intermediate_size": 512},
    "multiples of 32": {"hidden_size": 96, "intermediate_size": 160},
    "multiples of 4": {"hidden_size": 80, "intermediate_size": 116},
}

#: Methods that can do without an importance matrix; those whose search is long run on the sample only.
PLAIN = [name for name in METHODS if not name.startswith(("iq1", "iq2", "iq3_x", "q2_k_s"))]
QUICK = [name for name in PLAIN if not name.startswith("iq")]


def check(model: Path, folder: Path, methods: list[str], *, pure: bool = False) -> None:
    """Types and bytes of every tensor equal to those of the two steps, method by method."""
    f32 = convert(model, "f32", folder / "reference.gguf", verify="none").output
    for method in methods:
        ours = convert(model, method, folder / f"{method}.gguf", overrides=Overrides(pure=pure), verify="none").output
        theirs = folder / "two-step.gguf"
        llama_cpp_oracle.quantize(f32, theirs, METHODS[method].file_type, pure=pure)
        assert llama_cpp_oracle.tensors(ours) == llama_cpp_oracle.tensors(theirs), method
        ours.unlink()


@pytest.mark.parametrize("pure", [False, True], ids=["mixed", "pure"])
@pytest.mark.parametrize("method", PLAIN)
def test_the_sample_model(tmp_path: Path, method: str, pure: bool) -> None:
    check(SAMPLE, tmp_path, [method], pure=pure)


@pytest.mark.parametrize("pure", [False, True], ids=["mixed", "pure"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_every_kind(tmp_path: Path, shape: str, tied: bool, pure: bool) -> None:
    model = write_model(tmp_path / "model", "llama", tie_word_embeddings=tied, **SHAPES[shape])
    check(model, tmp_path, QUICK, pure=pure)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_sources_in_shards(tmp_path: Path, dtype: str) -> None:
    model = write_model(tmp_path / "model", "qwen3", dtype=dtype, shard="1MB")
    assert len(list(model.glob("*.safetensors"))) > 1
    check(model, tmp_path, QUICK)


@pytest.mark.parametrize(
    ("variation", "changes"),
    [
        ("llama", {"num_hidden_layers": 17, "num_key_value_heads": 1, "intermediate_size": 256}),
        ("llama", {"num_hidden_layers": 9, "num_key_value_heads": 4}),
        ("mixtral", {"num_local_experts": 8, "num_hidden_layers": 9}),
        ("mixtral", {"num_local_experts": 4}),
        ("qwen3moe", {}),
    ],
)
def test_mixes_by_depth_heads_and_experts(tmp_path: Path, variation: str, changes: dict[str, object]) -> None:
    check(write_model(tmp_path / "model", variation, **changes), tmp_path, QUICK)
