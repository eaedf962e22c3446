"""Qwen3 that ranks texts: by the logits of two answers, or by a classifier; llama.cpp's scores are probabilities."""

from __future__ import annotations

import json
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
from converter.errors import ArchitectureError, CheckpointError
from converter.verification import verify

RANDOM = np.random.default_rng(7)
TEXTS = [RANDOM.integers(2, 500, length).tolist() for length in (95, 12, 40)]
CLASSIFIER = "AutoModelForSequenceClassification"
QWEN3 = {"head_dim": 32, "num_key_value_heads": 2, "pad_token_id": 1}
LABELS = {"id2label": {0: "far", 1: "near", 2: "there"}}

MODELS = {
    each.name: each
    for each in (
        Variation("qwen3-answers-tied", "Qwen3Config", QWEN3 | {"tie_word_embeddings": True}),
        Variation("qwen3-answers", "Qwen3Config", QWEN3 | {"tie_word_embeddings": False}),
        Variation("qwen3-classifier", "Qwen3Config", QWEN3 | {"num_labels": 1}, CLASSIFIER),
        Variation("qwen3-three-labels", "Qwen3Config", QWEN3 | LABELS, CLASSIFIER),
        Variation("qwen2-answers", "Qwen2Config", {"num_key_value_heads": 2}),
    )
}


def write_ranker(directory: Path, name: str, answers: dict[str, Any] | None = None, card: str | None = None) -> Path:
    """A random model, its LogitScore module's configuration and its model card."""
    with mock.patch.dict(VARIATIONS, MODELS):
        model = write_model(directory, name)
    if answers is not None:
        modules = [{"path": "", "type": "a.Transformer"}, {"path": "1_LogitScore", "type": "a.logit_score.LogitScore"}]
        (model / "modules.json").write_text(json.dumps(modules))
        (model / "1_LogitScore").mkdir()
        (model / "1_LogitScore" / "config.json").write_text(json.dumps(answers))
    if card is not None:
        (model / "README.md").write_text(card)
    return model


def rename(model: Path, names: dict[str, str]) -> dict[str, int]:
    """Give tokens of the vocabulary other names; their ids by the new ones."""
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    ids = {new: vocab.pop(old) for old, new in names.items()}
    vocab |= ids
    kept = [merge for merge in tokenizer["model"]["merges"] if not {*merge, "".join(merge)} & names.keys()]
    tokenizer["model"]["merges"] = kept
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    return ids


def names_of_two(model: Path) -> dict[str, str]:
    """Two whole words of the vocabulary, each with an answer as its new name."""
    tokenizer = json.loads((model / "tokenizer.json").read_text())["model"]
    parts = {part for merge in tokenizer["merges"] for part in merge}
    words = [token for token in tokenizer["vocab"] if len(token) > 3 and token.isalpha() and token not in parts]
    return {words[0]: "yes", words[1]: "no"}


def transformers_logits(directory: Path, model_class: str = "AutoModelForCausalLM") -> NDArray[np.float64]:
    """Of each text the last token's logits, or those of the labels; (texts, vocabulary or labels)."""
    import torch
    import transformers

    chosen = getattr(transformers, model_class)
    model = chosen.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        found = [model(torch.tensor([text])).logits[0].double().numpy() for text in TEXTS]
    return np.stack([logits[-1] if logits.ndim == 2 else logits for logits in found])


def assert_scores(file: Path, logits: NDArray[np.float64]) -> None:
    """Logarithms of the scores, within 3e-3 of the largest of the softmax's of ``logits``."""
    expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    scores = [llama_cpp_embeddings.text_embedding(file, text, llama_cpp_embeddings.RANK) for text in TEXTS]
    found = np.log(np.stack(scores).astype(np.float64))
    assert found.shape == expected.shape
    assert np.std(expected) > 0.5, "scores too flat to prove anything"
    assert np.abs(found - expected).max() / np.abs(expected).max() < 3e-3


def values(file: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in GGUFReader(file).fields.items()}


@pytest.mark.parametrize("name", ["qwen3-answers-tied", "qwen3-answers"])
@pytest.mark.parametrize("false", [77, None])
def test_answers(name: str, false: int | None, tmp_path: Path) -> None:
    model = write_ranker(tmp_path / "model", name, {"true_token_id": 345, "false_token_id": false})
    result = convert(model, "f32", tmp_path / "f32.gguf", verify="none")
    logits = transformers_logits(model)
    other = np.zeros(len(TEXTS)) if false is None else logits[:, false]
    assert_scores(result.output, np.stack([logits[:, 345], other], -1))
    assert values(result.output)["qwen3.classifier.output_labels"] == ["yes", "no"]
    assert "tokenizer.chat_template.rerank" not in values(result.output)
    assert any("gives the probability of yes against no" in warning for warning in result.warnings)


def test_answers_of_a_model_card(tmp_path: Path) -> None:
    """Qwen3-Reranker as published: nothing but its card says what it is, and its vocabulary holds the answers."""
    model = write_ranker(
        tmp_path / "model", "qwen3-answers-tied", card="---\nlicense: apache-2.0\n---\n\n# Qwen3-Reranker-0.6B\n"
    )
    ids = rename(model, names_of_two(model))
    file = convert(model, "f32", tmp_path / "f32.gguf", verify="none").output
    logits = transformers_logits(model)
    assert_scores(file, np.stack([logits[:, ids["yes"]], logits[:, ids["no"]]], -1))
    template = values(file)["tokenizer.chat_template.rerank"]
    assert "<Query>: {query}\n<Document>: {document}<|im_end|>" in template


@pytest.mark.parametrize("name", ["qwen3-classifier", "qwen3-three-labels"])
def test_classifier(name: str, tmp_path: Path) -> None:
    model = write_ranker(tmp_path / "model", name)
    file = convert(model, "f32", tmp_path / "f32.gguf", verify="none").output
    logits = transformers_logits(model, CLASSIFIER)
    assert_scores(file, np.concatenate([logits, np.zeros((len(TEXTS), int(logits.shape[1] == 1)))], -1))
    labels = ["yes", "no"] if logits.shape[1] == 1 else list(LABELS["id2label"].values())
    assert values(file)["qwen3.classifier.output_labels"] == labels


@pytest.mark.parametrize("name", ["qwen3-answers", "qwen3-classifier"])
def test_verification(name: str, tmp_path: Path) -> None:
    answers = {"true_token_id": 345, "false_token_id": 77} if name == "qwen3-answers" else None
    model = write_ranker(tmp_path / "model", name, answers)
    file = convert(model, "q8_0", tmp_path / "q8_0.gguf", verify="none").output
    loaded = verify(file, level="load", source=model, tokenizer=model, method="q8_0", threads=1)
    assert loaded.verdict.endswith("scores text, every score finite")
    assert verify(file, level="full", source=model, tokenizer=model, method="q8_0", threads=1).passed


CARD = "# Qwen3-Reranker-4B\n"


@pytest.mark.parametrize(
    ("name", "answers", "card", "refusal", "reason"),
    [
        ("qwen3-answers", {"true_token_id": 512}, None, CheckpointError, "an answer is 512, a number below 512"),
        ("qwen3-answers", {}, None, CheckpointError, "an answer is None, a number below 512 expected"),
        ("qwen3-answers", {"true_token_id": 1, "false_token_id": True}, None, CheckpointError, "answer is True"),
        ("qwen3-answers", None, CARD, CheckpointError, "its vocabulary has no 'no', by which this model ranks texts"),
        ("qwen2-answers", {"true_token_id": 1}, None, ArchitectureError, "is 'a.logit_score.LogitScore', but"),
    ],
)
def test_refusals(
    name: str, answers: Any, card: str | None, refusal: type[Exception], reason: str, tmp_path: Path
) -> None:
    model = write_ranker(tmp_path / "model", name, answers, card)
    with pytest.raises(refusal, match=reason):
        convert(model, "f32", tmp_path / "f32.gguf", verify="none")


def test_missing_files(tmp_path: Path) -> None:
    model = write_ranker(tmp_path / "model", "qwen3-answers", {"true_token_id": 1})
    (model / "1_LogitScore" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"missing; modules\.json says that it holds the tokens of the answers"):
        convert(model, "f32", tmp_path / "f32.gguf", verify="none")
