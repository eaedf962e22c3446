"""A quantized checkpoint converts to the very tensors of the same checkpoint dequantized by torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from converter.pipeline import convert

SAMPLE = Path(__file__).parents[1] / "fixtures" / "sample"


def tensor_bytes(path: Path) -> dict[str, bytes]:
    return {tensor.name: tensor.data.tobytes() for tensor in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize("method", ["f32", "q8_0"])
def test_fp8_to_gguf(tmp_path: Path, method: str) -> None:
    quantized, plain = {}, {}
    for name, tensor in load_file(SAMPLE / "model.safetensors").items():
        if not name.endswith("_proj.weight"):
            quantized[name] = plain[name] = tensor
            continue
        scale = tensor.float().abs().amax(1, keepdim=True) / 448
        quantized[name] = (tensor.float() / scale).to(torch.float8_e4m3fn)
        quantized[f"{name}_scale"] = scale
        plain[name] = quantized[name].float() * scale
    config = json.loads((SAMPLE / "config.json").read_text())
    outputs = []
    for label, tensors, settings in [("plain", plain, None), ("fp8", quantized, {"quant_method": "fbgemm_fp8"})]:
        directory = tmp_path / label / "sample"
        shutil.copytree(SAMPLE, directory)
        save_file(tensors, directory / "model.safetensors")
        (directory / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
        outputs.append(tmp_path / f"{label}.gguf")
        convert(directory, method, outputs[-1], verify="none")
    expected, found = map(tensor_bytes, outputs)
    assert found == expected
    assert any(np.frombuffer(data, np.uint8).any() for data in found.values())
