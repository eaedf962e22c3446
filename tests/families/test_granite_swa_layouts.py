"""Experts of Granite with windows under the names of its older relatives, which llama.cpp's converter reads too."""

from __future__ import annotations

from pathlib import Path

import llama_cpp_oracle
from checkpoint_builder import write_model

from converter import convert

#: Names in the files of transformers, and those of GraniteMoe's.
NAMES = {
    "router.weight": "router.layer.weight",
    "experts.gate_up_proj": "input_linear.weight",
    "experts.down_proj": "output_linear.weight",
}


def test_experts_under_older_names(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = write_model(tmp_path / "model", "granitemoe-swa-shared")
    expected = convert(model, "f32", tmp_path / "expected.gguf", verify="none").output
    tensors = load_file(model / "model.safetensors")
    renamed = {}
    for name, tensor in tensors.items():
        block, _, rest = name.partition("block_sparse_moe.")
        renamed[f"{block}block_sparse_moe.{NAMES[rest]}" if rest else name] = tensor
    assert renamed.keys() - tensors.keys()
    save_file(renamed, model / "model.safetensors", {"format": "pt"})
    found = convert(model, "f32", tmp_path / "found.gguf", verify="none").output
    assert llama_cpp_oracle.tensors(found) == llama_cpp_oracle.tensors(expected)
