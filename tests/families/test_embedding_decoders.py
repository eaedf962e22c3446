"""Decoders for embeddings, as sentence-transformers saves them: names without a head, a pooling mode beside them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import llama_cpp_embeddings
import numpy as np
import pytest
from checkpoint_builder import write_model
from gguf import GGUFReader
from numpy.typing import NDArray
from variation import VARIATIONS, Variation

from converter import convert
from converter.verification import verify

TOKENS = [0, *np.random.default_rng(7).integers(2, 500, 95).tolist()]

#: How sentence-transformers pools embeddings of shape (tokens, length), and llama.cpp's number of it.
POOLINGS = {
    "mean": (lambda embeddings: embeddings.mean(0), 1),
    "cls": (lambda embeddings: embeddings[0], 2),
    "lasttoken": (lambda embeddings: embeddings[-1], 3),
}

QWEN3 = {"head_dim": 32, "num_key_value_heads": 2}
GROUPED = {"num_key_value_heads": 2}

Bare = partial(Variation, model="AutoModel")


#: Each with its pooling mode.
MODELS = [
    (Bare("qwen3-embedding", "Qwen3Config", QWEN3 | {"tie_word_embeddings": True}), "lasttoken"),
    (Bare("qwen3-model-untied", "Qwen3Config", QWEN3 | {"tie_word_embeddings": False}), "mean"),
    (Variation("qwen3-with-a-head", "Qwen3Config", QWEN3), "lasttoken"),
    (Bare("qwen2-model", "Qwen2Config", {"num_key_value_heads": 1}), "lasttoken"),
    (Bare("qwen2-model-to-both-sides", "Qwen2Config", GROUPED | {"is_causal": False}), "lasttoken"),
    (Bare("llama-model", "LlamaConfig", GROUPED), "cls"),
    (Bare("llama-model-to-both-sides", "LlamaConfig", GROUPED | {"is_causal": False}), "mean"),
    (Bare("mistral-model", "MistralConfig", GROUPED | {"sliding_window": None}), "lasttoken"),
]
NAMED = {each.name: each for each, _ in MODELS}
MODE = {each.name: mode for each, mode in MODELS}


def write_embedding_model(directory: Path, name: str, **fields: Any) -> Path:
    """A checkpoint with the files that sentence-transformers adds, and ``fields`` changed in its config.json."""
    with mock.patch.dict(VARIATIONS, NAMED):
        model = write_model(directory, name)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    (model / "modules.json").write_text(json.dumps(modules))
    (model / "1_Pooling").mkdir()
    flags = {f"pooling_mode_{mode}": False for mode in ("cls_token", "mean_tokens", "max_tokens", "lasttoken")}
    chosen = MODE[name] if MODE[name] == "lasttoken" else {"mean": "mean_tokens", "cls": "cls_token"}[MODE[name]]
    (model / "1_Pooling" / "config.json").write_text(json.dumps(flags | {f"pooling_mode_{chosen}": True}))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | fields))
    return model


def transformers_embeddings(directory: Path) -> NDArray[np.float32]:
    """Last hidden states, (tokens, length)."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        return model(torch.tensor([TOKENS]), use_cache=False).last_hidden_state[0].numpy()


def values(file: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in GGUFReader(file).fields.items()}


@pytest.mark.parametrize("name", NAMED)
def test_embedding(name: str, tmp_path: Path) -> None:
    model = write_embedding_model(tmp_path / "model", name)
    file = convert(model, "f32", tmp_path / "f32.gguf", verify="none").output
    pool, number = POOLINGS[MODE[name]]
    arch = values(file)["general.architecture"]
    assert values(file)[f"{arch}.pooling_type"] == number
    expected, found = pool(transformers_embeddings(model)), llama_cpp_embeddings.text_embedding(file, TOKENS)
    assert np.std(expected) > 0.1
    assert np.abs(found - expected).max() / np.abs(expected).max() < 3e-3
    assert expected @ found / np.linalg.norm(expected) / np.linalg.norm(found) > 0.99999


def test_causal_class_with_names_of_the_model_alone(tmp_path: Path) -> None:
    """So Qwen3-Embedding is published: the class of text generation, the tensors of the model without a head."""
    model = write_embedding_model(tmp_path / "model", "qwen3-embedding", architectures=["Qwen3ForCausalLM"])
    file = convert(model, "f32", tmp_path / "f32.gguf", verify="none").output
    expected = transformers_embeddings(model)[-1]
    found = llama_cpp_embeddings.text_embedding(file, TOKENS)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 3e-3


@pytest.mark.parametrize("name", ["qwen3-embedding", "qwen3-with-a-head", "qwen2-model-to-both-sides"])
def test_verification(name: str, tmp_path: Path) -> None:
    """Its embeddings are compared, pooled as the file says, and not what it would generate."""
    model = write_embedding_model(tmp_path / "model", name)
    file = convert(model, "f32", tmp_path / "f32.gguf", verify="none").output
    assert "embeds text" in verify(file, level="load", source=model, tokenizer=model, method="f32", threads=1).verdict
    result = verify(file, level="full", source=model, tokenizer=model, method="f32", threads=1)
    assert result.passed, result.verdict
    assert result.cosine is not None
    assert result.cosine > 0.99999
    assert result.mean_kl is None


def test_verification_of_another_model(tmp_path: Path) -> None:
    model = write_embedding_model(tmp_path / "model", "qwen3-embedding")
    other = write_embedding_model(tmp_path / "other", "qwen3-model-untied")
    file = convert(model, "f32", tmp_path / "f32.gguf", verify="none").output
    assert not verify(file, level="full", source=other, tokenizer=model, method="f32", threads=1).passed


def test_decoder_without_these_files_predicts(tmp_path: Path) -> None:
    with mock.patch.dict(VARIATIONS, NAMED):
        model = write_model(tmp_path / "model", "qwen3-with-a-head")
    file = convert(model, "f32", tmp_path / "f32.gguf", verify="none").output
    assert "qwen3.pooling_type" not in values(file)
    result = verify(file, level="full", source=model, tokenizer=model, method="f32", threads=1)
    assert result.passed
    assert result.mean_kl is not None
