"""What is said where a method's blocks don't divide a model's rows, against what llama.cpp stores then."""

from __future__ import annotations

import re
from pathlib import Path

import llama_cpp_oracle as oracle
import pytest
from checkpoint_builder import write_model
from gguf import GGUFReader

from converter import convert
from converter.recipes import METHODS

#: Rows of 384 and of 1024.
ODD = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 4}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("odd") / "odd", "llama", **ODD)


@pytest.mark.parametrize("method", ["q4_k_m", "q6_k"])
def test_the_sentence_counts_what_llama_cpp_stored_otherwise(odd: Path, tmp_path: Path, method: str) -> None:
    convert(odd, "f32", tmp_path / "f32.gguf", verify="none")
    oracle.quantize(tmp_path / "f32.gguf", tmp_path / "theirs.gguf", METHODS[method].file_type)
    theirs = GGUFReader(tmp_path / "theirs.gguf").tensors
    matrices = [tensor for tensor in theirs if len(tensor.shape) > 1]
    others = [tensor for tensor in matrices if int(tensor.shape[0]) % 256]
    bits = 8 * sum(int(tensor.n_bytes) for tensor in theirs) / sum(int(tensor.n_elements) for tensor in theirs)

    result = convert(odd, method, tmp_path / "ours.gguf", dry_run=True, verify="none")
    (warning,) = [text for text in result.warnings if "bits per weight" in text]
    types = " or ".join(sorted({tensor.tensor_type.name.lower() for tensor in others}))
    assert warning.startswith(f"{method} takes {bits:.2f} bits per weight here instead of ")
    assert f": {len(others)} of {len(matrices)} matrices are stored as {types}, " in warning
    assert "because their rows of 384 are not a multiple of 256" in warning


def test_the_bits_that_would_be_are_those_of_rows_that_fit(tmp_path: Path) -> None:
    """A model twice as wide in each direction has the same shares of its matrices."""
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 4, "num_hidden_layers": 4, "vocab_size": 1024}
    odd = write_model(tmp_path / "odd", "llama", hidden_size=384, intermediate_size=1024, **sizes)
    warned = convert(odd, "q4_k_m", tmp_path / "x.gguf", dry_run=True, verify="none").warnings
    (told,) = [re.search(r"instead of (\d\.\d\d)", text) for text in warned if "bits per weight" in text]
    assert told is not None
    fitting = write_model(tmp_path / "even", "llama", hidden_size=768, intermediate_size=2048, **sizes)
    result = convert(fitting, "q4_k_m", tmp_path / "y.gguf", dry_run=True, verify="none")
    assert float(told[1]) == pytest.approx(result.bits_per_weight, abs=0.15)
    assert not [text for text in result.warnings if "bits per weight" in text]


@pytest.mark.parametrize("method", ["q8_0", "q4_0", "iq4_nl", "f16"])
def test_methods_of_small_blocks_say_nothing(odd: Path, tmp_path: Path, method: str) -> None:
    result = convert(odd, method, tmp_path / "x.gguf", dry_run=True, verify="none")
    assert not [text for text in result.warnings if "bits per weight" in text]
