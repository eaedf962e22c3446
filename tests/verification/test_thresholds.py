"""The table of limits against what is measured: on the trained sample, on random weights, on damaged files."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from converter import convert
from converter.recipes import METHODS
from converter.verification import THRESHOLDS, thresholds_for
from converter.verification.isolation import ask
from converter.verification.run_source import write_results
from converter.verification.thresholds import bits_per_weight, thresholds_for_bits

SAMPLE = Path(__file__).parents[1] / "fixtures" / "sample"
VOCAB_SIZES = {"sample": 1024, "random": 512}

Compare = Callable[[str, Path], dict[str, Any]]


@pytest.fixture(scope="module")
def compare(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Compare:
    """Compare a file with the sample or with the random checkpoint; each source is run once."""
    folders: dict[str, Path] = {}

    def run(name: str, path: Path) -> dict[str, Any]:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            source = str(SAMPLE if name == "sample" else checkpoint)
            write_results(
                kind="causal",
                source=source, tokenizer=source, folder=str(folders[name]), context_length=256,
                row_length=VOCAB_SIZES[name], batch_size=8, threads=1, trust_remote_code=False, load_dtype=None,
            )  # fmt: skip
        return ask("run_output_llama_cpp:compare", path=str(path), folder=str(folders[name]), threads=1)

    return run


@pytest.fixture(scope="module")
def sample_files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("sample-files")
    return {method: convert(SAMPLE, method, folder / f"{method}.gguf", verify="none").output for method in THRESHOLDS}


@pytest.mark.parametrize("method", THRESHOLDS)
def test_sample_is_within_the_documented_multiples(
    compare: Compare, sample_files: Mapping[str, Path], method: str
) -> None:
    limits, figures = THRESHOLDS[method], compare("sample", sample_files[method])
    assert limits.exceeded_by(figures, VOCAB_SIZES["sample"]) == []
    assert figures["source_perplexity"] < VOCAB_SIZES["sample"] / 2, "the sample must count as trained"
    if method not in ("f32", "f16"):
        assert limits.mean_kl == pytest.approx(15 * figures["mean_kl"], rel=0.15)
        assert 1 - limits.top1_agreement == pytest.approx(5 * (1 - figures["top1_agreement"]), rel=0.2)
        assert limits.perplexity_ratio - 1 == pytest.approx(2 * figures["mean_kl"] ** 0.5, rel=0.15)


@pytest.mark.parametrize("method", THRESHOLDS)
def test_random_weights_pass(compare: Compare, files: Callable[[str], Path], method: str) -> None:
    figures = compare("random", files(method))
    assert figures["source_perplexity"] > VOCAB_SIZES["random"] / 2, "random weights must not count as trained"
    assert THRESHOLDS[method].exceeded_by(figures, VOCAB_SIZES["random"]) == []
    assert 2 * figures["lost_information"] <= max(THRESHOLDS[method].lost_information, 1e-5)


def zero(data: np.ndarray) -> None:
    data.fill(0)


def turn(data: np.ndarray) -> None:
    data[...] = data[::-1].copy()


@pytest.mark.parametrize("change", [zero, turn])
@pytest.mark.parametrize("tensor", ["blk.2.attn_k.weight", "blk.2.ffn_down.weight"])
@pytest.mark.parametrize("method", ["f32", "q8_0", "q4_0"])
def test_one_damaged_tensor_of_the_sample_is_noticed(
    compare: Compare,
    sample_files: Mapping[str, Path],
    tmp_path: Path,
    method: str,
    tensor: str,
    change: Callable[[np.ndarray], None],
) -> None:
    path = Path(shutil.copy(sample_files[method], tmp_path))
    data = next(found.data for found in GGUFReader(path, "r+").tensors if found.name == tensor)
    change(data)
    data.flush()
    assert THRESHOLDS[method].exceeded_by(compare("sample", path), VOCAB_SIZES["sample"])


def test_method_without_a_row_takes_the_next_one_down() -> None:
    assert thresholds_for_bits(16) == THRESHOLDS["f16"]
    assert thresholds_for_bits(6.5625) == THRESHOLDS["q5_1"]
    assert thresholds_for_bits(5.5) == THRESHOLDS["q5_0"]
    assert thresholds_for_bits(4.5) == THRESHOLDS["q4_0"]
    lower = thresholds_for_bits(3.5)
    assert lower.mean_kl == pytest.approx(4 * THRESHOLDS["q4_0"].mean_kl)
    assert 1 - lower.top1_agreement == pytest.approx(min(1, 2 * (1 - THRESHOLDS["q4_0"].top1_agreement)))


def test_every_method_has_thresholds() -> None:
    for method in METHODS:
        assert 0 < thresholds_for(method).mean_kl < 20


def test_more_bits_are_never_held_to_less() -> None:
    rows = sorted(THRESHOLDS, key=lambda name: (bits_per_weight(name), name == "f16"))
    for fewer, more in itertools.pairwise(rows):
        assert THRESHOLDS[more].mean_kl <= THRESHOLDS[fewer].mean_kl, (more, fewer)
        assert THRESHOLDS[more].lost_information <= THRESHOLDS[fewer].lost_information, (more, fewer)
        assert THRESHOLDS[more].top1_agreement >= THRESHOLDS[fewer].top1_agreement, (more, fewer)
