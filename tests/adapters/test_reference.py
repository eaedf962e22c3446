"""What a full verification compares with: the source run with its adapters."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import lora_builder
import numpy as np
import pytest
from lora_builder import logits

from converter.errors import EnvironmentFailure, VerificationError
from converter.verification.run_source import REFERENCES
from converter.verification.source_model import load_source

CAUSAL = REFERENCES["causal"].classes


def test_the_source_runs_with_its_adapters(bases: Callable[[str], Path], tmp_path: Path) -> None:
    base = bases("llama")
    adapters = [
        lora_builder.write_adapter(base, tmp_path / str(seed), seed=seed, target_modules=["q_proj"]) for seed in (1, 2)
    ]
    names = [str(adapter) for adapter in adapters]
    expected = logits(lora_builder.merged(base, *adapters))
    run = load_source(str(base), CAUSAL, adapters=names).model
    assert np.abs(logits(run) - expected).max() < 1e-5 * np.abs(expected).max()
    rounded = load_source(str(base), CAUSAL, load_dtype="bf16", adapters=names).model
    weight = rounded.state_dict()["model.layers.0.self_attn.q_proj.weight"]
    merged = lora_builder.merged(base, *adapters).state_dict()["model.layers.0.self_attn.q_proj.weight"]
    assert np.array_equal(weight.numpy(), merged.bfloat16().float().numpy())


def test_more_rows(bases: Callable[[str], Path], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    larger = lora_builder.load(bases("llama"))
    larger.resize_token_embeddings(520)
    model = get_peft_model(larger, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    lora_builder.randomize(model, 1)
    model.save_pretrained(tmp_path / "adapter")
    run = load_source(str(bases("llama")), CAUSAL, adapters=[str(tmp_path / "adapter")]).model
    expected = logits(model.eval())
    assert expected.shape[1] == 520
    assert np.abs(logits(run) - expected).max() < 1e-5 * np.abs(expected).max()


def test_without_peft(bases: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = lora_builder.write_adapter(bases("llama"), tmp_path / "adapter", target_modules=["q_proj"])
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(EnvironmentFailure, match="peft is not installed; run pip install peft"):
        load_source(str(bases("llama")), CAUSAL, adapters=[str(adapter)])


def test_an_adapter_that_peft_refuses(bases: Callable[[str], Path], tmp_path: Path) -> None:
    adapter = lora_builder.write_adapter(bases("llama"), tmp_path / "adapter", target_modules=["q_proj"])
    with pytest.raises(VerificationError, match=r"^PEFT cannot load the adapters: .*target"):
        load_source(str(bases("gpt2")), CAUSAL, adapters=[str(adapter)])
