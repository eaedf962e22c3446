"""Level ``full``: figures against transformers and llama.cpp as the test runs them, faithful and damaged files."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp_oracle
import numpy as np
import pytest
from checkpoint_builder import write_model

from converter import convert
from converter.errors import VerificationError
from converter.pipeline import convert_together
from converter.request import Request
from converter.verification import THRESHOLDS, Verification, verify
from converter.verification.passage import PASSAGE
from converter.verification.run_source import REFERENCES
from converter.verification.source_model import load_source


def full(path: Path, source: Path, method: str = "f32", **changes: Any) -> Verification:
    return verify(
        path, **{"level": "full", "source": source, "tokenizer": source, "method": method, "threads": 1, **changes}
    )


@pytest.fixture(scope="module")
def faithful(files: Callable[[str], Path], checkpoint: Path) -> Verification:
    return full(files("q8_0"), checkpoint, "q8_0")


def test_exact_copy_is_exact_in_batches_too(files: Callable[[str], Path], checkpoint: Path) -> None:
    told: list[str] = []
    result = full(files("f32"), checkpoint, batch_size=3, progress=told.append)
    assert result.passed
    assert result.mean_kl < 1e-9
    assert result.top1_agreement == 1
    assert result.file_perplexity == pytest.approx(result.source_perplexity, rel=1e-6)
    assert result.thresholds == THRESHOLDS["f32"]
    assert result.verdict.startswith(
        "faithful over 2,048 tokens: the source predicts nearly at random, as a model without training does, so they "
        "are compared by how much of the information in its predictions is lost: "
    )
    assert told[3:] == ["running the source with transformers", "comparing the file's predictions with the source's"]


def test_figures_are_those_of_transformers_and_llama_cpp(
    files: Callable[[str], Path], checkpoint: Path, faithful: Verification
) -> None:
    """The same comparison, by the test's own run of both models and torch's own formulas."""
    import torch
    from tokenizers import Tokenizer
    from torch.nn.functional import cross_entropy, kl_div, log_softmax
    from transformers import AutoModelForCausalLM

    ids = Tokenizer.from_file(str(checkpoint / "tokenizer.json")).encode(PASSAGE).ids
    windows = torch.tensor(ids)[: 8 * 256].reshape(8, 256)  # this tokenizer puts nothing before a text
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    with torch.inference_mode():
        source = model(windows).logits.double()
    file = torch.from_numpy(
        np.stack([llama_cpp_oracle.logits(files("q8_0"), window) for window in windows.tolist()])
    ).double()
    p, q = (log_softmax(logits, -1).flatten(0, 1) for logits in (source, file))
    assert faithful.mean_kl == pytest.approx(kl_div(q, p, log_target=True, reduction="batchmean").item(), rel=1e-3)
    assert faithful.top1_agreement == pytest.approx((p.argmax(-1) == q.argmax(-1)).double().mean().item(), abs=2e-3)
    for logits, perplexity in ((source, faithful.source_perplexity), (file, faithful.file_perplexity)):
        nats = cross_entropy(logits[:, :-1].flatten(0, 1), windows[:, 1:].flatten())
        assert perplexity == pytest.approx(math.exp(nats), rel=1e-4)


def exchange_halves(data: np.ndarray) -> None:
    data[...] = np.roll(data, len(data) // 2, axis=0)


def test_damaged_tensor_fails_and_is_measured(damaged: Callable[..., Path], checkpoint: Path) -> None:
    result = full(damaged("q8_0", "blk.1.attn_q.weight", exchange_halves), checkpoint, "q8_0")
    assert not result.passed
    assert result.verdict == (
        f"the file is not faithful over 2,048 tokens, for q8_0: {result.lost_information:.2g} of the "
        "information in the source's predictions lost, at most 0.035 expected"
    )
    assert result.lost_information > 0.1
    assert result.thresholds == THRESHOLDS["q8_0"]


def test_rounding_before_conversion_is_part_of_the_source(checkpoint: Path, tmp_path: Path) -> None:
    path = convert(checkpoint, "f32", tmp_path / "rounded.gguf", torch_dtype="bfloat16", verify="none").output
    exact = full(path, checkpoint, load_dtype="bf16")
    assert exact.passed
    assert exact.mean_kl < 1e-9  # 2e-4 without the rounding


def loads(source: Path) -> None:
    load_source(str(source), REFERENCES["causal"].classes)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            {"model_type": "never_heard_of"},
            "transformers cannot load it: The checkpoint you are trying to load has model",
        ),
        ({"num_hidden_layers": 3}, r"transformers finds no weights for model\.layers\.2\."),
        ({"vocab_size": 600}, "transformers cannot load it: "),
    ],
)
def test_source_that_transformers_cannot_load_is_said(
    checkpoint: Path, tmp_path: Path, config: dict[str, Any], reason: str
) -> None:
    source = Path(shutil.copytree(checkpoint, tmp_path / "source"))
    changed = json.loads((source / "config.json").read_text()) | config
    (source / "config.json").write_text(json.dumps(changed))
    with pytest.raises(VerificationError, match=reason) as refusal:
        loads(source)
    assert len(str(refusal.value).splitlines()) == 1


def test_source_without_its_code_is_said(checkpoint: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(checkpoint, tmp_path / "source"))
    config = json.loads((source / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (source / "config.json").write_text(json.dumps(config))
    (source / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(VerificationError, match="contains custom code which must be executed"):
        loads(source)
    assert not (tmp_path / "ran").exists()


def test_file_of_another_source(files: Callable[[str], Path], checkpoint: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", "llama", vocab_size=640, num_hidden_layers=1)
    found = full(files("f32"), other, tokenizer=checkpoint)
    assert (found.passed, found.verdict) == (
        False,
        "the file is not made of this source: the source predicts 640 tokens but the file 512",
    )


def test_source_is_run_once_for_all_outputs_of_a_batch(
    checkpoint: Path, tmp_path: Path, faithful: Verification, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GGUF and a directory of the same numbers among them; the figures are those of a single conversion."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    steps: list[str] = []
    outcomes = convert_together(
        [
            Request(checkpoint, "q8_0", tmp_path / "a.gguf", verify="full"),
            Request(checkpoint, "q4_0", tmp_path / "b.gguf", verify="full"),
            Request(checkpoint, "q8_0", tmp_path / "c", verify="full", output_format="safetensors"),
        ],
        progress=lambda step: steps.append(step.item),
    )
    verifications = [outcome.verification for outcome in outcomes]
    assert [found.passed for found in verifications] == [True] * 3
    assert steps.count("running the source with transformers") == 1
    assert verifications[0].mean_kl == pytest.approx(faithful.mean_kl, rel=1e-6)
    assert verifications[1].mean_kl > 2 * verifications[0].mean_kl
    assert len({found.source_perplexity for found in verifications}) == 1
    assert list((tmp_path / "scratch").iterdir()) == []


def test_text_part_of_a_multimodal_checkpoint(tmp_path: Path) -> None:
    """No causal class of transformers knows its configuration; a GGUF and a directory of it."""
    source = write_model(tmp_path / "source", "qwen25vl-published-untied")
    file = convert(source, "f32", tmp_path / "file.gguf", verify="full").verification
    directory = convert(source, "f32", tmp_path / "directory", verify="full", output_format="safetensors").verification
    assert file.mean_kl < 1e-5
    assert directory.mean_kl < 1e-9
