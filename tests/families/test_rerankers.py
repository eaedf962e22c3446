"""Encoders that score texts: llama.cpp's scores against transformers' logits, verification, and what is refused."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import llama_cpp_embeddings
import llama_cpp_oracle
import numpy as np
import pytest
from checkpoint_builder import write_model
from gguf import GGUFReader
from numpy.typing import NDArray
from variation import VARIATIONS, Variation

from converter import convert
from converter.architectures.families.encoders.reranker import ModernBertReranker
from converter.errors import ArchitectureError
from converter.recipes import METHODS
from converter.verification import verify

RANDOM = np.random.default_rng(7)
TEXTS = [[6, *RANDOM.integers(6, 500, length).tolist()] for length in (95, 12, 40)]
POSITIONS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}


def spread_norms(model: Any) -> None:
    """Weights of the norms, whose names the builder does not know as such, about their default of one."""
    import torch

    for name, parameter in model.named_parameters():
        if name.endswith("LayerNorm.weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)


def labels(count: int) -> dict[str, Any]:
    return {"id2label": {number: f"class {number}" for number in range(count)}}


Ranker = partial(Variation, model="AutoModelForSequenceClassification", adjust=spread_norms)

MODELS = {
    each.name: each
    for each in (
        Ranker("bert-ranker", "BertConfig", {"num_labels": 1, "type_vocab_size": 1}),
        Ranker("bert-two-labels", "BertConfig", {"layer_norm_eps": 1e-5}),
        Ranker("bert-eleven-labels", "BertConfig", labels(11)),
        Ranker("roberta-ranker", "RobertaConfig", {**POSITIONS, **labels(3), "type_vocab_size": 1}),
        Ranker("xlm-roberta-ranker", "XLMRobertaConfig", {**POSITIONS, "num_labels": 1, "type_vocab_size": 1}),
        Ranker("camembert-ranker", "CamembertConfig", {**POSITIONS, "num_labels": 1}),
        Ranker("modern-bert-ranker", "ModernBertConfig", {"num_labels": 1, "local_attention": 16}),
        Ranker("modern-bert-mean", "ModernBertConfig", {"classifier_pooling": "mean", **labels(3)}),
        Ranker("distilbert-ranker", "DistilBertConfig", {"num_labels": 1}),
    )
}
RUN = [name for name in MODELS if not name.startswith("distilbert")]


def write_reranker(directory: Path, name: str, **fields: Any) -> Path:
    """A random model, with ``fields`` changed in its config.json."""
    with mock.patch.dict(VARIATIONS, MODELS):
        model = write_model(directory, name)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | fields))
    return model


def transformers_scores(directory: Path) -> NDArray[np.float32]:
    """Logits of the texts, (texts, labels)."""
    import torch
    from transformers import AutoModelForSequenceClassification as Classifier

    model = Classifier.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        return np.stack([model(torch.tensor([text])).logits[0].numpy() for text in TEXTS])


def llama_cpp_scores(file: Path) -> NDArray[np.float32]:
    return np.stack([llama_cpp_embeddings.text_embedding(file, text, llama_cpp_embeddings.RANK) for text in TEXTS])


@pytest.mark.parametrize("name", RUN)
def test_scores(name: str, tmp_path: Path) -> None:
    model = write_reranker(tmp_path / "model", name)
    file = convert(model, "f32", tmp_path / "f32.gguf", verify="none").output
    expected, found = transformers_scores(model), llama_cpp_scores(file)
    assert found.shape == expected.shape
    assert np.std(expected) > 0.1, "scores too flat to prove anything"
    assert np.abs(found - expected).max() / np.abs(expected).max() < 3e-3


@pytest.mark.parametrize("name", ["bert-eleven-labels", "bert-two-labels", "xlm-roberta-ranker"])
def test_labels(name: str, tmp_path: Path) -> None:
    """As config.json numbers them; transformers leaves two without names out of it."""
    file = convert(write_reranker(tmp_path / "model", name), "f32", tmp_path / "f32.gguf", verify="none").output
    fields = {name: field.contents() for name, field in GGUFReader(file).fields.items()}
    named = {"bert-eleven-labels": ("class {}", 11), "bert-two-labels": ("LABEL_{}", 2)}.get(name, ("LABEL_{}", 1))
    assert fields["bert.classifier.output_labels"] == [named[0].format(number) for number in range(named[1])]
    assert fields["bert.pooling_type"] == llama_cpp_embeddings.RANK


@pytest.mark.parametrize("name", ["bert-eleven-labels", "modern-bert-mean"])
def test_bytes(name: str, tmp_path: Path) -> None:
    """Against llama.cpp's two steps."""
    model = write_reranker(tmp_path / "model", name)
    file = convert(model, "f32", tmp_path / "reference.gguf", verify="none").output
    for method in (METHODS[name] for name in ("f16", "q8_0", "q4_0")):
        ours = convert(model, method.name, tmp_path / f"{method.name}.gguf", verify="none").output
        llama_cpp_oracle.quantize(file, tmp_path / "two-step.gguf", method.file_type)
        assert llama_cpp_oracle.tensors(ours) == llama_cpp_oracle.tensors(tmp_path / "two-step.gguf"), method.name


@pytest.mark.parametrize("name", ["bert-ranker", "modern-bert-mean", "roberta-ranker"])
def test_verification(name: str, tmp_path: Path) -> None:
    model = write_reranker(tmp_path / "model", name)
    file = convert(model, "f32", tmp_path / "f32.gguf", verify="none").output
    loaded = verify(file, level="load", source=model, tokenizer=model, method="f32", threads=1)
    assert loaded.verdict.endswith("scores text, every score finite")
    result = verify(file, level="full", source=model, tokenizer=model, method="f32", threads=1)
    assert result.passed, result.verdict
    assert " with the source's embeddings, " in result.verdict


@pytest.mark.parametrize(
    ("tensor", "value", "reason"),
    [
        ("cls.output.weight", 0.0, "it gives different texts the same scores"),
        ("cls.output.bias", 3e38, "1 of 1 elements of a text's scores are not finite"),
    ],
)
def test_useless_head_fails(tensor: str, value: float, reason: str, tmp_path: Path) -> None:
    model = write_reranker(tmp_path / "model", "bert-ranker")
    file = convert(model, "f32", tmp_path / "f32.gguf", verify="none").output
    tensors = {found.name: found.data for found in GGUFReader(file, "r+").tensors}
    tensors[tensor].fill(value)
    tensors[tensor].flush()
    if value:
        tensors["cls.output.weight"].fill(value)
        tensors["cls.output.weight"].flush()
    result = verify(file, level="load", source=model, tokenizer=model, method="f32", threads=1)
    assert not result.passed
    assert reason in result.verdict


def test_pairs_of_two_token_types_are_told(tmp_path: Path) -> None:
    two = convert(write_reranker(tmp_path / "two", "bert-two-labels"), "f32", tmp_path / "2.gguf", verify="none")
    one = convert(write_reranker(tmp_path / "one", "bert-ranker"), "f32", tmp_path / "1.gguf", verify="none")
    assert any("llama.cpp gives all tokens the first" in warning for warning in two.warnings)
    assert not any("token type" in warning for warning in one.warnings)


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("modern-bert-ranker", {"classifier_pooling": "max"}, "'classifier_pooling' is 'max'"),
        ("modern-bert-ranker", {"classifier_activation": "silu"}, "'classifier_activation' is 'silu'"),
        ("modern-bert-ranker", {"classifier_bias": True}, "'classifier_bias' is True"),
        ("bert-ranker", {"id2label": {"1": "yes"}}, "'id2label' is .*, a name for each number from 0 expected"),
        ("bert-ranker", {"id2label": ["yes"]}, r"'id2label' is \['yes'\], an object expected"),
        ("distilbert-ranker", {}, "its head has a relu behind its first layer, llama.cpp's a tanh"),
    ],
)
def test_refusals(name: str, fields: dict[str, Any], reason: str, tmp_path: Path) -> None:
    model = write_reranker(tmp_path / "model", name, **fields)
    with pytest.raises(ArchitectureError, match=reason):
        convert(model, "f32", tmp_path / "f32.gguf", verify="none")
    assert not (tmp_path / "f32.gguf").exists()


def test_defaults_are_those_of_transformers() -> None:
    from transformers import ModernBertConfig

    given = ModernBertConfig()
    for field in ("classifier_pooling", "classifier_bias", "classifier_activation"):
        assert ModernBertReranker.defaults[field] == getattr(given, field)
