"""Adapters that change embeddings: tied to the output matrix, with more rows, and some tokens alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lora_builder
import numpy as np
import pytest
from lora_builder import values

from converter.adapters import adapt
from converter.checkpoints import Checkpoint, open_checkpoint

EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"

#: What is trained on a tied model, and whether its output matrix is still the embedding afterwards.
TIED: dict[str, tuple[dict[str, Any], bool]] = {
    "neither": ({"target_modules": ["q_proj"]}, True),
    "output": ({"target_modules": ["lm_head"]}, False),
    "embedding": ({"target_modules": ["embed_tokens"]}, False),
    "both": ({"target_modules": ["embed_tokens", "lm_head"]}, False),
    "together": ({"target_modules": ["embed_tokens"], "ensure_weight_tying": True}, True),
    "new-embedding": ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, False),
    "new-embedding-together": (
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
        True,
    ),
    "new-output": ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, False),
    "tokens": ({"target_modules": ["q_proj"], "trainable_token_indices": [5, 2]}, True),
}


def run(checkpoint: Checkpoint) -> Any:
    """Logits of transformers' model of these tensors."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**checkpoint.config)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    state = {name: torch.from_numpy(values(checkpoint, name)) for name in checkpoint.tensors}
    missing = model.load_state_dict(state, strict=False).missing_keys
    assert missing == ([OUTPUT] if config.tie_word_embeddings else [])
    return lora_builder.logits(model)


@pytest.mark.parametrize("case", TIED)
def test_tied_as_the_adapter_computes(case: str, bases: Callable[[str], Path], tmp_path: Path) -> None:
    """The reference is the model with the adapter beside it: merging in place would change both matrices."""
    config, still_tied = TIED[case]
    base = bases("qwen2-tied")
    adapter = lora_builder.write_adapter(base, tmp_path / "adapter", **config)
    expected = lora_builder.logits(lora_builder.with_adapters(base, adapter))
    with adapt(open_checkpoint(base), [adapter]) as adapted:
        assert adapted.config["tie_word_embeddings"] is still_tied
        assert (OUTPUT not in adapted.tensors) is still_tied
        assert np.abs(run(adapted) - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("variation", ["llama", "qwen2-tied"])
def test_more_rows(variation: str, bases: Callable[[str], Path], tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    base, adapter = bases(variation), tmp_path / "adapter"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        larger = lora_builder.load(base)
        larger.resize_token_embeddings(520)
        model = get_peft_model(larger, LoraConfig(r=2, target_modules=["v_proj"], task_type="CAUSAL_LM"))
        lora_builder.randomize(model, 3)
        model.save_pretrained(adapter)
        again = lora_builder.load(base)
        again.resize_token_embeddings(520)
        merged = PeftModel.from_pretrained(again, adapter).merge_and_unload()
    with adapt(open_checkpoint(base), [adapter]) as adapted:
        assert adapted.config["vocab_size"] == 520
        assert adapted.tensors[EMBEDDING].shape == (520, 256)
        assert (OUTPUT in adapted.tensors) is (variation == "llama")
        lora_builder.compare(adapted, merged)
