"""Each family against transformers (logits) and llama.cpp's two-step route (bytes)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import llama_cpp_oracle
import numpy as np
import pytest
from numpy.typing import NDArray
from variation import COMPARED_IN_BYTES, VARIATIONS

from converter import convert
from converter.recipes import METHODS

TOKENS = [0, *np.random.default_rng(7).integers(2, 500, 95).tolist()]


#: Least distance of a choice from a tie, in standard deviations of the scores. Rounding moves scores by some 2e-6 of
#: that from one processor to another.
DISTANCE = 1e-5


def transformers_logits(directory: Path, model: str) -> NDArray[np.float32]:
    import torch
    import transformers
    from discrete_choices import Choices

    loaded = getattr(transformers, model).from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad(), Choices() as choices:
        logits: NDArray[np.float32] = loaded(torch.tensor([TOKENS])).logits[0].numpy()
    assert choices.nearest > DISTANCE, "rounding decides what this model chooses; give the variation another seed"
    return logits


def mean_divergence(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Mean KL(expected || found) in nats over all positions."""
    logs = [x - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)) - x.max(-1, keepdims=True)
            for x in (expected.astype(np.float64), found.astype(np.float64))]  # fmt: skip
    return float((np.exp(logs[0]) * (logs[0] - logs[1])).sum(-1).mean())


@pytest.fixture(scope="session")
def float32_files(checkpoints: Mapping[str, Path]) -> Callable[[str], Path]:
    """The variations' checkpoints as float32 files, each made when it is first asked for."""

    def file(name: str) -> Path:
        path = checkpoints[name].parent / "f32.gguf"
        return path if path.exists() else convert(checkpoints[name], "f32", path, verify="none").output

    return file


@pytest.mark.parametrize("name", VARIATIONS)
def test_logits(name: str, checkpoints: Mapping[str, Path], float32_files: Callable[[str], Path]) -> None:
    model, file = checkpoints[name], float32_files(name)
    expected = transformers_logits(model, VARIATIONS[name].model)
    found = llama_cpp_oracle.logits(file, TOKENS)[:, : expected.shape[1]]
    assert np.std(expected) > 0.5, "logits too flat to prove anything"
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error < 3e-3, f"logits differ by {error:.2e} of the largest"
    assert mean_divergence(expected, found) < 1e-5


@pytest.mark.parametrize("name", COMPARED_IN_BYTES)
def test_bytes(
    name: str, checkpoints: Mapping[str, Path], float32_files: Callable[[str], Path], tmp_path: Path
) -> None:
    model, file = checkpoints[name], float32_files(name)
    for method in (METHODS[name] for name in ("f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "q4_k_m", "q6_k")):
        ours = convert(model, method.name, tmp_path / f"{method.name}.gguf", verify="none").output
        llama_cpp_oracle.quantize(file, tmp_path / "two-step.gguf", method.file_type)
        assert llama_cpp_oracle.tensors(ours) == llama_cpp_oracle.tensors(tmp_path / "two-step.gguf"), method.name
