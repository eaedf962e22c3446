"""Directories of safetensors of other kinds of models and sources, in numbers of stock transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from checkpoint_builder import write_model
from command_line import convert
from encoder_builder import write_encoder
from lora_builder import merged, write_adapter
from safetensors.torch import load_file, save_file

from converter import convert as convert_model
from converter.quants import QUANT_TYPES, ggml

IDS = torch.arange(3, 40)[None]


def write(source: Path, method: str, output: Path, *options: object) -> Path:
    outcome = convert(
        "--quiet", "--model", source, "--method", method, "--format", "safetensors", "--output", output,
        "--verify", "none", "--no-catalogue", *options,
    )  # fmt: skip
    assert outcome.code == 0, outcome
    return output


def by_ggml(weight: torch.Tensor, method: str) -> torch.Tensor:
    """The numbers of the GGUF blocks that ggml makes."""
    rows, kind = weight.float().numpy(), QUANT_TYPES[method]
    blocks, values = np.empty((len(rows), kind.row_bytes(rows.shape[1])), np.uint8), np.empty_like(rows)
    ggml.quantize(kind.ggml_type, rows, blocks)
    ggml.dequantize(kind.ggml_type, blocks, values)
    return torch.from_numpy(values)


@pytest.mark.parametrize(("variation", "method"), [("bert", "q8_0"), ("t5", "q8_0")])
def test_encoders_hold_the_numbers_of_ggml(variation: str, method: str, tmp_path: Path) -> None:
    source = write_encoder(tmp_path / "source", variation)
    name = json.loads((source / "config.json").read_text())["architectures"][0]
    class_ = getattr(transformers, name)
    output = write(source, method, tmp_path / "out")
    model, info = class_.from_pretrained(output, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"], info
    assert not info["unexpected_keys"], info
    expected = class_.from_pretrained(source, dtype=torch.float32)
    dense = json.loads((output / "config.json").read_text())["quantization_config"].get("dequantize", False)
    assert dense is (variation == "t5")
    quantized = 0
    with torch.no_grad():
        for name, module in expected.named_modules():
            linear = isinstance(module, torch.nn.Linear) and any(part.isdigit() for part in name.split("."))
            for parameter in module.parameters(recurse=False):
                matrix = linear and parameter.ndim == 2
                quantized += matrix
                values = by_ggml(parameter, method) if matrix else parameter.half()
                parameter.copy_(values.half() if dense else values)  # made dense in the type of the scales
        inputs = {"input_ids": IDS}
        if model.config.is_encoder_decoder:
            inputs["decoder_input_ids"] = IDS[:, :5]
        assert quantized >= 12
        assert torch.equal(model(**inputs)[0], expected(**inputs)[0])


def test_experts_in_mxfp4_are_what_transformers_dequantizes(tmp_path: Path) -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    source = write_model(tmp_path / "source", "gpt-oss", dtype="bfloat16")
    stored = load_file(source / "model.safetensors")
    expected = dict(stored)
    for name in [name for name in stored if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, inputs, outputs = stored.pop(name).shape
        blocks = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
        scales = torch.randint(118, 126, (experts, outputs, inputs // 32), dtype=torch.uint8)
        stored |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        expected[name] = convert_moe_packed_tensors(blocks, scales, dtype=torch.bfloat16).contiguous()
    save_file(stored, source / "model.safetensors", {"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "mxfp4"}}))
    output = write(source, "bf16", tmp_path / "out")
    found = load_file(output / "model.safetensors")
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def test_adapters_are_merged(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", "llama")
    adapter = write_adapter(source, tmp_path / "adapter", target_modules=["q_proj", "down_proj"])
    output = write(source, "f32", tmp_path / "out", "--adapter", adapter)
    model = transformers.AutoModelForCausalLM.from_pretrained(output, dtype=torch.float32)
    with torch.no_grad():
        found, expected = model(IDS).logits, merged(source, adapter)(IDS).logits
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_weights_may_be_rounded_first(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", "llama")
    output = tmp_path / "out"
    convert_model(
        source, "f32", output, output_format="safetensors", torch_dtype="float16", verify="none", catalogue=""
    )
    found, weights = load_file(output / "model.safetensors"), load_file(source / "model.safetensors")
    assert all(torch.equal(found[name], weights[name].half().float()) for name in weights)


def test_pytorch_files_become_safetensors(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", "llama")
    weights = load_file(source / "model.safetensors")
    torch.save(weights, source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    found = load_file(write(source, "f32", tmp_path / "out") / "model.safetensors")
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
