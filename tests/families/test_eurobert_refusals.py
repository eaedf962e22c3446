"""What llama.cpp has no place for in EuroBERT is refused; the defaults are transformers'; embeddings are pooled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import llama_cpp_embeddings
import numpy as np
import pytest
from encoder_builder import write_encoder

from converter import convert
from converter.errors import ArchitectureError

TOKENS = [6, *np.random.default_rng(7).integers(6, 500, 63).tolist()]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"attention_bias": True}, "'attention_bias' is True"),
        ({"mlp_bias": True}, "'mlp_bias' is True"),
        ({"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
        ({"head_dim": 32}, "'head_dim' is 32, .* num_attention_heads = 64"),
        (
            {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "factor": 2.0}},
            "rope scaling 'longrope' cannot be represented",
        ),
        (
            {"architectures": ["EuroBertForSequenceClassification"]},
            "EuroBertForSequenceClassification is a classifier",
        ),
    ],
)
def test_refusals(fields: dict[str, Any], reason: str, tmp_path: Path) -> None:
    model = write_encoder(tmp_path / "model", "eurobert")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | fields))
    with pytest.raises(ArchitectureError, match=reason):
        convert(model, "f32", tmp_path / "f32.gguf", verify="none")
    assert not (tmp_path / "f32.gguf").exists()


def test_pooled(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel

    model = write_encoder(tmp_path / "model", "eurobert")
    (model / "modules.json").write_text(json.dumps([{"path": "1_Pooling", "type": "a.Pooling"}]))
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "mean"}))
    file = convert(model, "f32", tmp_path / "f32.gguf").output
    source = AutoModel.from_pretrained(model, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        expected = source(torch.tensor([TOKENS])).last_hidden_state[0].mean(0).numpy()
    found = llama_cpp_embeddings.text_embedding(file, TOKENS)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 3e-3
