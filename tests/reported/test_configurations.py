"""Configurations as people have them: fields left out or of older releases, other kinds of models, ids without rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp_oracle
import numpy as np
import pytest
from checkpoint_builder import write_model
from checkpoint_layouts import with_config
from encoder_builder import write_encoder
from reported_configurations import TOKENS, edited

from converter import Result, convert
from converter.architectures import FAMILIES, find_family
from converter.architectures.auto_classes import EVIDENCE, MODEL_TYPES
from converter.errors import ArchitectureError, CheckpointError, ConversionError


def assert_same_logits(model: Path, file: Path) -> None:
    """What llama.cpp computes of the file is what transformers' auto class computes of the model."""
    import torch
    import transformers

    loaded = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.no_grad():
        expected = loaded(torch.tensor([TOKENS])).logits[0].numpy()
    found = llama_cpp_oracle.logits(file, TOKENS)[:, : expected.shape[1]]
    assert np.abs(found - expected).max() < 3e-3 * np.abs(expected).max()


# ``architectures``.


@pytest.mark.parametrize("given", [None, []])
def test_no_architectures(
    given: list[str] | None, llama: Path, tmp_path: Path, converted: Callable[..., Result]
) -> None:
    model = edited(llama, tmp_path / "model", config={"architectures": given})
    assert_same_logits(model, converted(model, "load").output)


def test_model_types_are_those_of_transformers() -> None:
    from transformers.models.auto import modeling_auto as auto

    named: dict[str, set[str]] = {}
    for mapping in (name for name in dir(auto) if name.startswith("MODEL_") and name.endswith("MAPPING_NAMES")):
        for model_type, classes in getattr(auto, mapping).items():
            named.setdefault(model_type, set()).update([classes] if isinstance(classes, str) else classes)
    of_remote_code = {name for name in MODEL_TYPES if name not in named}
    assert of_remote_code <= {
        "RefinedWeb", "RefinedWebModel", "bailing_moe", "baichuan", "chatglm", "exaone", "internlm2", "minicpm",
        "orion",
    }  # fmt: skip
    for model_type, classes in MODEL_TYPES.items():
        assert {*classes} <= FAMILIES.keys()
        # InternLM 3 is run by transformers as Llama.
        assert model_type in of_remote_code or model_type == "internlm3" or {*classes} <= named[model_type]
    supported = {model_type for model_type, classes in named.items() if classes & FAMILIES.keys()}
    assert supported - MODEL_TYPES.keys() <= {"gpt-sw3", "iquestcoder", "shieldgemma2"}


@pytest.mark.parametrize(
    ("model_type", "tensors", "expected"),
    [
        ("bert", ["embeddings.word_embeddings.weight"], "BertModel"),
        ("bert", ["bert.embeddings.word_embeddings.weight", "classifier.weight"], "BertForSequenceClassification"),
        ("qwen3", ["model.embed_tokens.weight"], "Qwen3ForCausalLM"),
        ("qwen3", ["model.embed_tokens.weight", "score.weight"], "Qwen3ForSequenceClassification"),
        ("t5", ["shared.weight", "decoder.final_layer_norm.weight"], "T5ForConditionalGeneration"),
        ("t5", ["shared.weight", "encoder.final_layer_norm.weight"], "T5EncoderModel"),
        ("gemma3_text", ["model.embed_tokens.weight"], "Gemma3ForCausalLM"),
    ],
)
def test_tensors_tell_classes_of_one_type_apart(model_type: str, tensors: list[str], expected: str) -> None:
    assert find_family({"model_type": model_type}, tensors) is FAMILIES[expected]


def test_evidence_is_of_classes_that_need_it() -> None:
    import re

    several = [name for classes in MODEL_TYPES.values() if len(classes) > 1 for name in classes]
    assert all(any(re.fullmatch(pattern, name) for name in several) for pattern in EVIDENCE)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "gemma3_text"},
            "config.json: no 'architectures', and 'model_type' 'gemma3_text' has several: add "
            '"architectures": ["Gemma3ForCausalLM"] or "architectures": ["Gemma3TextModel"]',
        ),
        (
            {"model_type": "gizmo"},
            "config.json: no 'architectures', and 'model_type' 'gizmo' is none that is known here; add the model's "
            'class, as in "architectures": ["LlamaForCausalLM"] (`convert families` lists those that are)',
        ),
        (
            {},
            "config.json: neither 'architectures' nor 'model_type' says what the model is; add its class, as in "
            '"architectures": ["LlamaForCausalLM"]',
        ),
        ({"model_type": 7}, "config.json: 'model_type' is 7, a text expected"),
    ],
)
def test_no_architectures_and_no_telling(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ArchitectureError) as refusal:
        find_family(config, ["embed_tokens.weight"])
    assert str(refusal.value) == message


# Models of other kinds.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "LlamaForSequenceClassification",
            "is a classifier: it labels texts and writes none; llama.cpp runs classifiers of Bert, Camembert, "
            "ModernBert, Qwen3, Roberta, XLMRoberta only; run it with transformers, or convert the model that it was "
            "fine-tuned from",
        ),
        (
            "LlamaForTokenClassification",
            "is a classifier of tokens: it labels words and writes none; run it with transformers, or convert the "
            "model that it was fine-tuned from",
        ),
        ("BertForQuestionAnswering", "is a model that picks answers from a text and writes none; run it with"),
        ("InternLM2ForRewardModel", "is a reward model: it scores texts and writes none; run it with transformers"),
        ("CLIPModel", "is a model that looks at images; only language models and text encoders are converted"),
        ("ViTForImageClassification", "is a model that looks at images; "),
        ("SiglipVisionModel", "is a model that looks at images; "),
        ("WhisperForConditionalGeneration", "is a model of speech or sound; only language models and text encoders"),
        ("Wav2Vec2ForCTC", "is a model of speech or sound; "),
    ],
)
def test_models_of_other_kinds(name: str, message: str) -> None:
    with pytest.raises(ArchitectureError) as refusal:
        find_family({"architectures": [name]})
    assert str(refusal.value).startswith(f"config.json: {name} {message}")


def test_a_classifier_made_of_a_decoder(llama: Path, tmp_path: Path, converted: Callable[..., Result]) -> None:
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(llama, num_labels=3)
    model = tmp_path / "model"
    shutil.copytree(llama, model)
    torch.manual_seed(0)
    transformers.LlamaForSequenceClassification(config).save_pretrained(model)
    with pytest.raises(ArchitectureError, match="LlamaForSequenceClassification is a classifier: it labels texts"):
        converted(model)


def test_parts_of_a_diffusion_model(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match="UNet2DConditionModel is a part of a diffusion model"):
        find_family({"_class_name": "UNet2DConditionModel"})
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    (tmp_path / "unet").mkdir()
    with pytest.raises(CheckpointError, match=r"is a diffusion model of several parts .*, which makes images; only"):
        convert(tmp_path, "f32", tmp_path / "out.gguf")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("LlamaForCasualLM", "nearest: LlamaForCausalLM, "),
        ("llamaforcausallm", "nearest: LlamaForCausalLM"),
        ("Gemma9ForCausalLM", "nearest: GemmaForCausalLM, "),
        ("FrobnicatorForCausalLM", "`convert families`"),
        ("x" * 1000, "`convert families`"),
    ],
)
def test_an_unknown_class_is_a_short_line(name: str, nearest: str) -> None:
    with pytest.raises(ArchitectureError) as refusal:
        find_family({"architectures": [name]})
    message = str(refusal.value)
    assert nearest in message
    assert len(message) < 300
    assert message.endswith("`convert families` lists those that are")


# Ropes.

LINEAR = {"rope_type": "linear", "factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_theta": 700.0, "rope_scaling": {"type": "dynamic", "factor": 4.0}},
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 700.0, "factor": 4.0}},
        {"rope_theta": 700.0, "rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_scaling": {**LINEAR, "rope_theta": 700.0}, "rope_theta": 5.0},
        {"rope_scaling": {**LINEAR, "factor": 8.0}, "rope_parameters": LINEAR},
        {"rope_scaling": {}, "rope_parameters": LINEAR, "rope_theta": 700.0},
        {"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 4.0}},
        {"rope_scaling": YARN, "original_max_position_embeddings": 32},
        {"rope_theta": 700.0},
    ],
)
def test_ropes_as_transformers_reads_them(
    fields: dict[str, Any], llama: Path, tmp_path: Path, converted: Callable[..., Result]
) -> None:
    model = edited(llama, tmp_path / "model", config={"rope_parameters": None, **fields})
    assert_same_logits(model, converted(model).output)


def exact_up_to(length: int) -> str:
    return f": the file is exact up to a context of {length} tokens"


@pytest.mark.parametrize(
    ("variation", "changes", "warning"),
    [
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "llama.cpp has no dynamic rope scaling"),
        ("gpt-neox", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "llama.cpp has no dynamic rope scaling"),
        ("nomic-bert", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "llama.cpp has no dynamic rope scaling"),
        ("olmo2", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "llama.cpp has no dynamic rope scaling"),
        (
            "starcoder2",
            {"sliding_window": 64},
            "the model attends to the last 64 tokens only, llama.cpp to all of them",
        ),
        (
            "phi3-short",
            {},
            "the model changes its rope by the length of the text, llama.cpp by the size of the context",
        ),
        (
            "starcoder2",
            {"sliding_window": 64, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
            "the model attends to the last 64 tokens only, llama.cpp to all of them",
        ),
    ],
)
def test_one_rule_for_what_is_exact_up_to_a_length(
    variation: str, changes: dict[str, Any], warning: str, tmp_path: Path
) -> None:
    model = with_config(write_encoder(tmp_path / "written", variation), tmp_path / "model", changes)
    length = 64 if "sliding_window" in changes else 512 if variation == "phi3-short" else None
    result = convert(model, "f32", tmp_path / "out.gguf", verify="none", dry_run=True)
    length = length or json.loads((model / "config.json").read_text())["max_position_embeddings"]
    assert result.warnings == (warning + exact_up_to(length),)


# Nested fields.


@pytest.mark.parametrize(
    ("variation", "changes", "message"),
    [
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": "4"}}, "'rope_scaling.factor' is '4', a positive"),
        ("llama", {"rope_parameters": {"rope_theta": 0}}, "'rope_parameters.rope_theta' is 0, a positive number"),
        ("llama", {"rope_scaling": "linear"}, "'rope_scaling' is 'linear', an object expected"),
        ("mistral", {"sliding_window": "many"}, "'sliding_window' is 'many', an integer of at least 1 expected"),
        ("mistral", {"sliding_window": float("inf")}, "'sliding_window' is inf, an integer of at least 1 expected"),
        ("mistral", {"sliding_window": {}}, "'sliding_window' is {}, an integer of at least 1 expected"),
        ("llama-rope-yarn-range", {"rope_parameters": {**YARN, "beta_fast": -1}}, "'rope_parameters.beta_fast' is -1"),
        ("mpt", {"attn_config": {"clip_qkv": "8"}}, "'attn_config.clip_qkv' is '8', a finite number expected"),
    ],
)
def test_fields_of_the_wrong_type(variation: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = with_config(write_model(tmp_path / "written", variation), tmp_path / "model", changes)
    with pytest.raises(ArchitectureError) as refusal:
        convert(model, "f32", tmp_path / "out.gguf", verify="none")
    assert message in str(refusal.value)


# JSON as it comes.

MARK = b"\xef\xbb\xbf"


def test_a_byte_order_mark(llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = edited(llama, tmp_path / "model")
    plain = convert(model, "f32", tmp_path / "plain.gguf", verify="none").output
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        path = model / name
        path.write_bytes(MARK + path.read_bytes().replace(b"\n", b"\r\n"))
    result = convert(model, "f32", tmp_path / "marked.gguf", verify="load")
    assert result.output.read_bytes() == plain.read_bytes()
    assert not caplog.records


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", r"config\.json: holds \[\], expected a JSON object"),
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", r"config\.json: is not valid JSON: nested too deeply"),
        (b'{"a": ' + b"[" * 100_000, r"config\.json: is not valid JSON"),
        (b'{"a": ' + b"9" * 5_000 + b"}", r"config\.json: is not valid JSON: Exceeds the limit"),
        ('{"a": 1}'.encode("utf-16"), r"config\.json: is not valid JSON: 'utf-8' codec can't decode byte"),
        (b"", r"config\.json: is empty; download it again"),
    ],
)
def test_json_that_is_none(content: bytes, message: str, llama: Path, tmp_path: Path) -> None:
    model = edited(llama, tmp_path / "model")
    (model / "config.json").write_bytes(content)
    with pytest.raises(ConversionError, match=message):
        convert(model, "f32", tmp_path / "out.gguf", verify="none")


def test_a_field_given_twice_counts_as_transformers_counts_it(
    llama: Path, tmp_path: Path, converted: Callable[..., Result]
) -> None:
    import transformers

    model = edited(llama, tmp_path / "model")
    path = model / "config.json"
    path.write_text(path.read_text().rstrip().removesuffix("}") + ', "rms_norm_eps": 0.25}')
    assert transformers.AutoConfig.from_pretrained(model).rms_norm_eps == 0.25
    assert_same_logits(model, converted(model).output)


@pytest.mark.parametrize("field", ["torch_dtype", "dtype"])
def test_the_type_of_the_weights(field: str, llama: Path, tmp_path: Path, converted: Callable[..., Result]) -> None:
    changes = {"dtype": None, "torch_dtype": None, field: "float32"}
    model = edited(llama, tmp_path / "model", config=changes)
    assert_same_logits(model, converted(model).output)
