"""BitNet is refused in each way that its checkpoints are stored, and the reason given holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoint_builder import write_tokenizer

from converter import convert
from converter.architectures import FAMILIES
from converter.errors import ConversionError

ONLINE = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}
PACKED = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}


def pack(path: Path) -> None:
    """Projections as the packed checkpoints hold them: four rows' two bits in one byte, and a scale."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers.integrations.bitnet import pack_weights

    tensors = load_file(path)
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        weight = tensors[name]
        scale = weight.abs().mean()
        tensors[name] = pack_weights((weight / scale).round().clamp(-1, 1))
        tensors[f"{name}_scale"] = scale.reshape(1).to(torch.bfloat16)
    save_file(tensors, path, {"format": "pt"})


#: Without a quantization_config, and with one, which is read first.
PLAIN = "architecture BitNetForCausalLM cannot be represented: .* squared ReLU"
QUANTIZED = "quant_method in quantization_config is 'bitnet', which is not read"


@pytest.mark.parametrize(("quantization", "message"), [(None, PLAIN), (ONLINE, QUANTIZED), (PACKED, QUANTIZED)])
def test_refused(quantization: dict[str, Any] | None, message: str, tmp_path: Path) -> None:
    import transformers

    model = tmp_path / "model"
    sizes = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1}
    config = transformers.BitNetConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)
    transformers.BitNetForCausalLM(config).save_pretrained(model)
    write_tokenizer(model)
    if quantization is PACKED:
        pack(model / "model.safetensors")
    if quantization is not None:
        written = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**written, "quantization_config": quantization}))
    with pytest.raises(ConversionError, match=message) as refusal:
        convert(model, "f32", tmp_path / "out.gguf", verify="none")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out.gguf").exists()
    assert "BitNetForCausalLM" not in FAMILIES


def test_the_activation_is_a_squared_relu() -> None:
    import torch
    from transformers import BitNetConfig
    from transformers.models.bitnet.modeling_bitnet import BitNetMLP

    mlp = BitNetMLP(BitNetConfig(hidden_size=8, intermediate_size=8))
    gates = torch.tensor([-1.0, 0.0, 2.0])
    assert mlp.act_fn(gates).tolist() == [0.0, 0.0, 4.0]
    assert torch.nn.functional.silu(gates).tolist() == pytest.approx([-0.2689, 0.0, 1.7616], abs=1e-4)
