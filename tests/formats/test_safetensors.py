"""Directories of safetensors, made on the command line and loaded by stock transformers, in numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_builder import write_model
from command_line import convert, refusal
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from converter.quants import QUANT_TYPES, ggml

SAMPLE = Path(__file__).parents[1] / "fixtures" / "sample"
IDS = torch.arange(3, 60)[None]

Weights = Mapping[str, torch.Tensor]
_QUANTIZED = re.compile(r"self_attn|experts")


def write(source: Path, method: str, output: Path, *options: object) -> Path:
    """Convert without verifying; the tests here do that themselves."""
    outcome = convert(
        "--quiet", "--model", source, "--method", method, "--format", "safetensors", "--output", output,
        "--verify", "none", "--no-catalogue", *options,
    )  # fmt: skip
    assert outcome.code == 0, outcome
    return output


def logits(directory: Path, replaced: Weights | None = None) -> torch.Tensor:
    """What stock transformers predicts in float32, with some of the parameters replaced."""
    model, info = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"], info
    assert not info["unexpected_keys"], info
    with torch.no_grad():
        for name, value in (replaced or {}).items():
            model.get_parameter(name).data = value
        found: torch.Tensor = model(IDS).logits
    return found


def by_ggml(weight: torch.Tensor, method: str) -> torch.Tensor:
    """The numbers of the GGUF blocks that ggml makes."""
    rows = weight.float().numpy()
    kind = QUANT_TYPES[method]
    blocks, values = np.empty((len(rows), kind.row_bytes(rows.shape[1])), np.uint8), np.empty_like(rows)
    ggml.quantize(kind.ggml_type, rows, blocks)
    ggml.dequantize(kind.ggml_type, blocks, values)
    return torch.from_numpy(values)


def by_library(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """What the library compressed-tensors makes of the groups, asymmetric, with float16 scales."""
    args = QuantizationArgs(num_bits=bits, symmetric=False, strategy="group", group_size=32, scale_dtype=torch.float16)
    groups = weight.float().unflatten(1, (-1, 32))
    scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), args)
    integers = quantize(weight.float(), scale, zero, args, dtype=torch.int8)
    values: torch.Tensor = dequantize(integers, scale.half(), zero, args).float()
    return values


def of_blocks(source: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
    """The matrices of the blocks, changed; of a model without experts."""
    weights = load_file(source / "model.safetensors")
    return {name: change(value) for name, value in weights.items() if ".layers." in name and value.ndim == 2}


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With biases, and embeddings that are the output matrix too."""
    return write_model(tmp_path_factory.mktemp("models") / "qwen2", "qwen2-tied", dtype="bfloat16")


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With experts, each a tensor of its own in the checkpoint."""
    return write_model(tmp_path_factory.mktemp("models") / "mixtral", "mixtral", dtype="bfloat16")


@pytest.mark.parametrize("method", ["f32", "bf16"])
def test_plain_is_exact(method: str, tmp_path: Path) -> None:
    output = write(SAMPLE, method, tmp_path / "out")
    assert torch.equal(logits(output), logits(SAMPLE))
    config = json.loads((output / "config.json").read_text())
    assert config["dtype"] == {"f32": "float32", "bf16": "bfloat16"}[method]
    stored = load_file(output / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {getattr(torch, config["dtype"])}


def test_f16_is_the_source_rounded(tmp_path: Path) -> None:
    output = write(SAMPLE, "f16", tmp_path / "out")
    expected = AutoModelForCausalLM.from_pretrained(SAMPLE, dtype=torch.float16).state_dict()
    stored = load_file(output / "model.safetensors")
    assert stored.keys() == expected.keys()
    assert all(torch.equal(stored[name], expected[name]) for name in stored)


@pytest.mark.parametrize("method", ["q4_0", "q5_0", "q8_0"])
def test_symmetric_is_loaded_with_the_numbers_of_ggml(method: str, tmp_path: Path) -> None:
    output = write(SAMPLE, method, tmp_path / "out")
    expected = logits(SAMPLE, of_blocks(SAMPLE, lambda weight: by_ggml(weight, method)))
    assert torch.equal(logits(output), expected)


@pytest.mark.parametrize(("method", "bits"), [("q4_1", 4), ("q5_1", 5)])
def test_asymmetric_is_loaded_as_the_library_quantizes(method: str, bits: int, tmp_path: Path) -> None:
    output = write(SAMPLE, method, tmp_path / "out")
    expected = logits(SAMPLE, of_blocks(SAMPLE, lambda weight: by_library(weight, bits)))
    assert torch.equal(logits(output), expected)


def test_biases_and_tied_embeddings(qwen2: Path, tmp_path: Path) -> None:
    output = write(qwen2, "q8_0", tmp_path / "out")
    assert "lm_head.weight" not in load_file(output / "model.safetensors")
    expected = logits(qwen2, of_blocks(qwen2, lambda weight: by_ggml(weight, "q8_0")))
    assert torch.equal(logits(output), expected)


def test_experts_are_merged_from_packed_ones(mixtral: Path, tmp_path: Path) -> None:
    output = write(mixtral, "q4_0", tmp_path / "out")
    assert json.loads((output / "config.json").read_text())["dtype"] == "float16"
    weights = load_file(mixtral / "model.safetensors")
    quantized = {name: by_ggml(value, "q4_0") for name, value in weights.items() if _QUANTIZED.search(name)}
    replaced = {name: value.half().float() for name, value in weights.items() if "moe" not in name}
    replaced |= {name: value for name, value in quantized.items() if "moe" not in name}
    for layer in (0, 1):
        block = f"model.layers.{layer}"
        w1, w2, w3 = (
            [quantized[f"{block}.block_sparse_moe.experts.{expert}.{part}.weight"] for expert in range(4)]
            for part in ("w1", "w2", "w3")
        )
        # transformers leaves experts in the type of their scales.
        both = [torch.cat(pair) for pair in zip(w1, w3, strict=True)]
        replaced[f"{block}.mlp.experts.gate_up_proj"] = torch.stack(both).half()
        replaced[f"{block}.mlp.experts.down_proj"] = torch.stack(w2).half()
        replaced[f"{block}.mlp.gate.weight"] = weights[f"{block}.block_sparse_moe.gate.weight"].half().float()
    assert torch.equal(logits(output), logits(mixtral, replaced))


def test_experts_that_cannot_be_quantized_are_refused(mixtral: Path, tmp_path: Path) -> None:
    said = refusal(
        "--model", mixtral, "--method", "q4_1", "--format", "safetensors", "--output", tmp_path / "out",
        "--no-catalogue",
    )  # fmt: skip
    assert said == (
        f"{mixtral}: MixtralForCausalLM has experts, which transformers cannot load as q4_1; use --method q4_0 or "
        "q5_0 or q8_0 where their rows are multiples of 32, or bf16"
    )
    assert not (tmp_path / "out").exists()


def test_experts_stay_plain_beside_bitsandbytes(mixtral: Path, tmp_path: Path) -> None:
    outcome = convert(
        "--model", mixtral, "--method", "bnb_4bit", "--format", "safetensors", "--output", tmp_path / "out",
        "--verify", "none", "--no-catalogue",
    )  # fmt: skip
    assert outcome.code == 0, outcome
    assert "of the weights stay bfloat16, such as model.layers.0.block_sparse_moe.experts.0.w1.weight" in outcome.err
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="bfloat16")
    theirs = AutoModelForCausalLM.from_pretrained(
        mixtral, quantization_config=settings, dtype="bfloat16", device_map="cpu"
    )
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "out", device_map="cpu")
    with torch.no_grad():
        assert torch.equal(ours(IDS).logits, theirs(IDS).logits)


@pytest.mark.parametrize("method", ["bnb_4bit", "bnb_8bit"])
def test_bitsandbytes_is_what_transformers_saves(method: str, tmp_path: Path) -> None:
    output = write(SAMPLE, method, tmp_path / "out")
    settings, dtype = {
        "bnb_4bit": (
            {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"},
            "bfloat16",
        ),
        "bnb_8bit": ({"load_in_8bit": True}, "float16"),
    }[method]
    model = AutoModelForCausalLM.from_pretrained(
        SAMPLE, quantization_config=BitsAndBytesConfig(**settings), dtype=dtype, device_map="cpu"
    )
    model.save_pretrained(tmp_path / "theirs")
    ours, theirs = (load_file(each / "model.safetensors") for each in (output, tmp_path / "theirs"))
    assert ours.keys() == theirs.keys()
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
    loaded = AutoModelForCausalLM.from_pretrained(output, device_map="cpu")
    assert loaded.dtype == getattr(torch, dtype)
    with torch.no_grad():
        assert torch.equal(loaded(IDS).logits, model(IDS).logits)


def test_shards_with_an_index(tmp_path: Path) -> None:
    output = write(SAMPLE, "q4_0", tmp_path / "out", "--split-max-size", "600K")
    shards = sorted(path.name for path in output.glob("*.safetensors"))
    assert shards[0] == f"model-00001-of-{len(shards):05}.safetensors"
    assert len(shards) > 2
    index = json.loads((output / "model.safetensors.index.json").read_text())
    assert {shard: set(load_file(output / shard)) for shard in shards} == {
        shard: {name for name, place in index["weight_map"].items() if place == shard} for shard in shards
    }
    whole = write(SAMPLE, "q4_0", tmp_path / "whole")
    assert torch.equal(logits(output), logits(whole))
