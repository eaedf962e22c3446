"""GPT-OSS's experts in the layout of its quantized files, beside the transposed one that transformers saves."""

from __future__ import annotations

from pathlib import Path

import llama_cpp_oracle
from checkpoint_builder import write_model

from converter import convert


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
