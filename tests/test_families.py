"""Each family against transformers (logits) and llama.cpp's two-step route (bytes)."""

from __future__ import annotations

from pathlib import Path

import llama_cpp_oracle
import numpy as np
import pytest
from models import FAMILY_CONFIGS, write_model

from converter import convert
from converter.recipes import METHODS

TOKENS = [0, *np.random.default_rng(7).integers(2, 500, 95).tolist()]


@pytest.fixture(scope="module", params=FAMILY_CONFIGS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp(request.param) / "model", request.param)


def transformers_logits(directory: Path) -> np.ndarray:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        return model(torch.tensor([TOKENS])).logits[0].numpy()


def test_logits_and_bytes(checkpoint: Path, tmp_path: Path) -> None:
    f32 = convert(checkpoint, "f32", tmp_path / "reference.gguf", verify="none").output
    expected, found = transformers_logits(checkpoint), llama_cpp_oracle.logits(f32, TOKENS)
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error < 3e-3, f"logits differ by {error:.2e} of the largest"
    assert np.std(expected) > 0.5, "logits too flat to prove anything"
    for method in METHODS.values():
        ours = convert(checkpoint, method.name, tmp_path / f"{method.name}.gguf", verify="none").output
        llama_cpp_oracle.quantize(f32, tmp_path / "two-step.gguf", method.file_type)
        assert llama_cpp_oracle.tensors(ours) == llama_cpp_oracle.tensors(tmp_path / "two-step.gguf"), method.name
