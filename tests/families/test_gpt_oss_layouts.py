"""GPT-OSS's experts in the layout of its quantized files, beside the transposed one that transformers saves."""

from __future__ import annotations

import json
from pathlib import Path

import llama_cpp_oracle
import numpy as np
from checkpoint_builder import write_model
from gguf import GGUFReader

from converter import convert
from converter.quants import QUANT_TYPES


def test_experts_with_rows_of_inputs_convert_as_the_transposed_ones(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = write_model(tmp_path / "model", "gpt-oss")
    expected = convert(model, "f32", tmp_path / "transposed.gguf", verify="none").output
    tensors = load_file(model / "model.safetensors")
    stacks = [name for name in tensors if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]
    assert len(stacks) == 6
    for name in stacks:
        tensors[f"{name}.weight"] = tensors.pop(name).swapaxes(1, 2).contiguous()
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    found = convert(model, "f32", tmp_path / "plain.gguf", verify="none").output
    assert llama_cpp_oracle.tensors(found) == llama_cpp_oracle.tensors(expected)


def test_experts_in_mxfp4_convert_as_transformers_dequantizes_them(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    model = write_model(tmp_path / "model", "gpt-oss")
    plain = load_file(model / "model.safetensors")
    quantized = dict(plain)
    for name in [name for name in plain if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, inputs, outputs = plain[name].shape
        blocks = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
        scales = torch.randint(118, 126, (experts, outputs, inputs // 32), dtype=torch.uint8)
        plain[name] = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32).contiguous()
        assert plain[name].shape == (experts, inputs, outputs)
        del quantized[name]
        quantized |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    save_file(plain, model / "model.safetensors", {"format": "pt"})
    expected = convert(model, "f32", tmp_path / "plain.gguf", verify="none").output
    save_file(quantized, model / "model.safetensors", {"format": "pt"})
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "mxfp4"}}))
    found = convert(model, "f32", tmp_path / "mxfp4.gguf", verify="none").output
    assert llama_cpp_oracle.tensors(found) == llama_cpp_oracle.tensors(expected)
    kept = convert(model, "mxfp4_moe", tmp_path / "kept.gguf", verify="none").output
    exact = {tensor.name: tensor.data for tensor in GGUFReader(found).tensors}
    experts = [tensor for tensor in GGUFReader(kept).tensors if tensor.name.endswith("exps.weight")]
    assert len(experts) == 9
    for tensor in experts:
        assert tensor.tensor_type.name == "MXFP4"
        numbers = QUANT_TYPES["mxfp4"].dequantize(tensor.data.reshape(-1, tensor.data.shape[-1]))
        assert np.array_equal(numbers, exact[tensor.name].reshape(numbers.shape)), (
            "blocks are passed on, not rounded again"
        )
