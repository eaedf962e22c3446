"""The header's key-values: names, types and values as llama.cpp's own converter writes them for the same checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoint_builder import write_model
from gguf import GGUFReader

from converter import convert

CARD = """---
license: apache-2.0
language: [en, de]
tags: [chat]
base_model: example/Tiny-1B
---
# Tiny
"""

#: What its converter wrote for these models (general.* of a directory named Tiny-Chat-v2-1B).
GENERAL = {
    "general.architecture": "llama",
    "general.type": "model",
    "general.sampling.top_k": 40,
    "general.sampling.temp": 0.5,
    "general.name": "Tiny Chat v2 1B",
    "general.version": "v2",
    "general.finetune": "Chat-1b",
    "general.basename": "Tiny",
    "general.size_label": "1.4M",
    "general.license": "apache-2.0",
    "general.base_model.count": 1,
    "general.base_model.0.name": "Tiny 1B",
    "general.base_model.0.organization": "Example",
    "general.base_model.0.repo_url": "https://huggingface.co/example/Tiny-1B",
    "general.tags": ["chat"],
    "general.languages": ["en", "de"],
    "general.file_type": 7,
    "general.quantization_version": 2,
}
LLAMA = {
    "block_count": 2,
    "context_length": 256,
    "embedding_length": 256,
    "feed_forward_length": 512,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "rope.freq_base": 10000.0,
    "attention.layer_norm_rms_epsilon": pytest.approx(1e-6),
}
HEADS = {"attention.key_length": 64, "attention.value_length": 64}
EXPECTED: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", LLAMA | HEADS | {"vocab_size": 512, "rope.dimension_count": 64}),
    "mistral": ("llama", LLAMA | HEADS | {"vocab_size": 512, "rope.dimension_count": 64}),
    "qwen2": ("qwen2", LLAMA),
    "qwen3": ("qwen3", LLAMA | {"attention.key_length": 128, "attention.value_length": 128}),
    "llama-rope-linear": (
        "llama",
        LLAMA
        | HEADS
        | {"vocab_size": 512, "rope.dimension_count": 64, "rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
    ),
    "llama-rope-yarn": (
        "llama",
        LLAMA
        | HEADS
        | {
            "vocab_size": 512,
            "rope.dimension_count": 64,
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 64,
        },
    ),
}


def header(file: Path) -> dict[str, Any]:
    fields = GGUFReader(file).fields
    return {name: field.contents() for name, field in fields.items() if not name.startswith(("GGUF.", "tokenizer."))}


@pytest.mark.parametrize("variation", EXPECTED)
def test_hyperparameters(tmp_path: Path, variation: str) -> None:
    model = write_model(tmp_path / "model", variation)
    found = header(convert(model, "q8_0", tmp_path / "x.gguf", verify="none").output)
    arch, expected = EXPECTED[variation]
    assert found["general.architecture"] == arch
    assert {name: value for name, value in found.items() if not name.startswith("general.")} == {
        f"{arch}.{name}": value for name, value in expected.items()
    }


def test_general(tmp_path: Path) -> None:
    model = write_model(tmp_path / "Tiny-Chat-v2-1B", "llama")
    (model / "README.md").write_text(CARD)
    generation = {**json.loads((model / "generation_config.json").read_text()), "top_k": 40, "temperature": 0.5}
    (model / "generation_config.json").write_text(json.dumps(generation))
    found = header(convert(model, "q8_0", tmp_path / "x.gguf", verify="none").output)
    assert {name: value for name, value in found.items() if name.startswith("general.")} == GENERAL


def test_a_broken_card_costs_only_its_facts(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "llama")
    (model / "README.md").write_text("---\nlicense: [unclosed\n---\n")
    assert header(convert(model, "q8_0", tmp_path / "x.gguf", verify="none").output)["general.name"]


def test_older_releases_spelling_of_rope(tmp_path: Path) -> None:
    """transformers 4 wrote rope_theta beside rope_scaling with a type; transformers 5 writes rope_parameters."""
    model = write_model(tmp_path / "model", "llama-rope-yarn", rope_theta=None)
    new = header(convert(model, "f32", tmp_path / "new.gguf", verify="none").output)
    config = json.loads((model / "config.json").read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    config["rope_scaling"] = {"type": parameters.pop("rope_type"), **parameters}
    (model / "config.json").write_text(json.dumps(config))
    assert header(convert(model, "f32", tmp_path / "old.gguf", verify="none").output) == new
