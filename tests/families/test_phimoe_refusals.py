"""Phi-3.5-MoE is refused, and the reason given holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checkpoint_builder import write_tokenizer

from converter import convert
from converter.architectures import FAMILIES
from converter.errors import ArchitectureError


@pytest.mark.parametrize("name", ["PhiMoEForCausalLM", "PhimoeForCausalLM"])
def test_refused(name: str, tmp_path: Path) -> None:
    import transformers

    model = tmp_path / "model"
    sizes = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_local_experts": 4}
    config = transformers.PhimoeConfig(**sizes, **heads)
    transformers.PhimoeForCausalLM(config).save_pretrained(model)
    write_tokenizer(model)
    written = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**written, "architectures": [name]}))
    with pytest.raises(
        ArchitectureError, match=f"architecture {name} cannot be represented: .* sparse mixer"
    ) as refusal:
        convert(model, "f32", tmp_path / "out.gguf", verify="none")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out.gguf").exists()
    assert name not in FAMILIES


def test_experts_are_weighed_near_one_each() -> None:
    """llama.cpp's rule gives weights of sum 1, and weights that move with the logits; the model's do neither."""
    import torch
    from transformers.models.phimoe.modeling_phimoe import sparsemixer

    apart, nearer, near = torch.tensor([[2.0, 1.0, 0.5, -1.0], [2.0, 1.9, 0.5, -1.0], [2.0, 1.99, 0.5, -1.0]])
    for logits in (apart, nearer):
        weights, chosen = sparsemixer(logits[None], jitter_eps=0.01, training=False)
        assert chosen.tolist() == [[0, 1]]
        assert weights.tolist() == [[1.0, 1.0]]
    weights, chosen = sparsemixer(near[None], jitter_eps=0.01, training=False)
    assert chosen.tolist() == [[0, 1]]
    assert weights[0, 0] == pytest.approx(0.5025, abs=1e-4)
    assert weights[0, 1] == 1.0
