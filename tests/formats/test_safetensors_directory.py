"""What else is in a directory of safetensors, and what the format refuses; on the command line."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from checkpoint_builder import write_model
from command_line import convert, refusal
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from converter import convert as convert_model

SAMPLE = Path(__file__).parents[1] / "fixtures" / "sample"


def arguments(source: Path, method: str, output: Path) -> list[object]:
    named = {"model": source, "method": method, "output": output, "format": "safetensors", "verify": "none"}
    return [part for name, value in named.items() for part in (f"--{name}", value)] + ["--no-catalogue"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the sample with a licence, code of its own, and leftovers of training."""
    copy = tmp_path / "source"
    shutil.copytree(SAMPLE, copy)
    (copy / "LICENSE").write_text("Do what you like.")
    (copy / "modeling_own.py").write_text("raise SystemExit")
    (copy / "optimizer.pt").write_bytes(b"\x80")
    (copy / "1_Pooling").mkdir()
    (copy / "1_Pooling" / "config.json").write_text("{}")
    config = json.loads((copy / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "modeling_own.Config", "AutoModel": "org/name--there.Model"}}
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def names(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def test_the_source_s_files_come_along(source: Path, tmp_path: Path) -> None:
    outcome = convert("--quiet", *arguments(source, "bf16", tmp_path / "out"))
    assert outcome.code == 0, outcome
    copied = {"LICENSE", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    copied.add("1_Pooling/config.json")
    assert names(tmp_path / "out") == copied | {"config.json", "model.safetensors"}
    for name in copied:
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["auto_map"] == {"AutoModel": "org/name--there.Model"}
    convert_model(
        source,
        "bf16",
        tmp_path / "trusted",
        output_format="safetensors",
        trust_remote_code=True,
        verify="none",
        catalogue="",
    )
    assert (tmp_path / "trusted" / "modeling_own.py").is_file()
    assert "AutoConfig" in json.loads((tmp_path / "trusted" / "config.json").read_text())["auto_map"]


def test_the_tokenizer_may_be_another_s(tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", "llama")
    outcome = convert("--quiet", *arguments(SAMPLE, "bf16", tmp_path / "out"), "--tokenizer", other)
    assert outcome.code == 0, outcome
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (other / "tokenizer.json").read_bytes()
    assert (tmp_path / "out" / "generation_config.json").is_file()
    assert not (tmp_path / "out" / "chat_template.jinja").exists()


def test_a_quantized_source_is_dequantized(tmp_path: Path) -> None:
    quantized = convert_model(
        SAMPLE, "q8_0", tmp_path / "q8_0", output_format="safetensors", verify="none", catalogue=""
    ).output
    outcome = convert("--quiet", *arguments(quantized, "f32", tmp_path / "plain"))
    assert outcome.code == 0, outcome
    assert "quantization_config" not in json.loads((tmp_path / "plain" / "config.json").read_text())
    with (
        safe_open(tmp_path / "plain" / "model.safetensors", "numpy") as plain,
        safe_open(SAMPLE / "model.safetensors", "numpy") as original,
    ):
        assert plain.keys() == original.keys()


def test_types_within_a_configuration_are_renewed(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", "gemma3-multimodal", dtype="bfloat16")
    config = json.loads((source / "config.json").read_text())
    config["torch_dtype"], config["text_config"]["dtype"] = config.pop("dtype", "bfloat16"), "bfloat16"
    (source / "config.json").write_text(json.dumps(config))
    outcome = convert("--quiet", *arguments(source, "f16", tmp_path / "out"))
    assert outcome.code == 0, outcome
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["torch_dtype"], config["text_config"]["dtype"]) == ("float16", "float16")


def test_tensors_without_weights_are_left_out(source: Path, tmp_path: Path) -> None:
    import numpy as np

    tensors = load_file(write_model(tmp_path / "llama", "llama") / "model.safetensors")
    tensors |= {"model.position_ids": np.arange(8), "model.nothing": np.empty((0, 4), np.float32)}
    tensors["model.scalar"] = np.array(2.5, np.float32)
    save_file(tensors, tmp_path / "llama" / "model.safetensors")
    outcome = convert(*arguments(tmp_path / "llama", "f32", tmp_path / "out"))
    assert outcome.code == 0, outcome
    assert "model.position_ids" in outcome.err
    assert "1 tensors of whole numbers or of nothing, such as model.nothing, are left out" in outcome.err
    kept = load_file(tmp_path / "out" / "model.safetensors")
    assert kept.keys() == tensors.keys() - {"model.position_ids", "model.nothing"}
    assert all(np.array_equal(kept[name], tensors[name]) for name in kept)


METHODS = "f32, f16, bf16, q4_0, q5_0, q8_0, q4_1, q5_1, bnb_4bit, bnb_8bit"


@pytest.mark.parametrize(
    ("method", "nearest"), [("q4_k_m", "q4_0"), ("Q6_K", "q8_0"), ("q5_k_s", "q5_0"), ("x", "q4_0")]
)
def test_methods_of_gguf_are_refused_with_the_nearest(method: str, nearest: str, tmp_path: Path) -> None:
    said = refusal(*arguments(SAMPLE, method, tmp_path / "out"), code=2)
    assert said.startswith(f"--format safetensors has no method {method!r}; it has {METHODS}, of which {nearest} is")


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--pre", "llama-bpe", "--pre"),
        ("--imatrix", "nowhere.gguf", "--imatrix"),
        ("--split-max-tensors", "3", "--split-max-tensors"),
        ("--output-type", "f16", "a type, a key-value or a block chosen by hand"),
    ],
)
def test_choices_of_gguf_are_refused(option: str, value: str, named: str, tmp_path: Path) -> None:
    said = refusal(*arguments(SAMPLE, "q4_0", tmp_path / "out"), option, value, code=2)
    assert said == f"{named} has no meaning for --format safetensors; leave it out"


def test_a_gguf_is_refused(tmp_path: Path) -> None:
    gguf = convert_model(SAMPLE, "f16", tmp_path / "a.gguf", verify="none", catalogue="").output
    said = refusal(*arguments(gguf, "f16", tmp_path / "out"))
    assert said.startswith(f"{gguf}: a GGUF lacks the configuration and the names that transformers needs")


@pytest.mark.parametrize(
    ("variation", "model", "method"),
    [("gpt2", "GPT2LMHeadModel", "q4_0"), ("falcon", "FalconForCausalLM", "bnb_4bit")],  # Falcon has a class of its own
)
def test_a_model_without_linear_modules_is_refused(variation: str, model: str, method: str, tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", variation)
    said = refusal(*arguments(source, method, tmp_path / "out"))
    assert said == f"{source}: {model} has no linear module that {method} fits; use --method bf16, or --format gguf"


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name == "bitsandbytes" else there(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    line = [*arguments(SAMPLE, "bnb_4bit", tmp_path / "out"), "--verify", "load"]
    said = refusal(*line)
    assert said == (
        "bnb_4bit: loading it to verify it needs bitsandbytes; run pip install bitsandbytes accelerate, or pass "
        "--verify none"
    )
    assert convert("--quiet", *arguments(SAMPLE, "bnb_4bit", tmp_path / "out")).code == 0
