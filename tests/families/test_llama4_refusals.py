"""What llama.cpp cannot run of Llama 4 is refused; what it has no keys for is as transformers has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import llama_cpp_oracle
import numpy as np
import pytest
from checkpoint_builder import write_model
from checkpoint_layouts import with_config
from numpy.typing import NDArray

from converter import convert
from converter.errors import CheckpointError

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 64}

#: Changes of config.json, what the message must say.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"no_rope_layers": [1] * 5}, r"'no_rope_layers' is \[1, 1, 1, 1, 1\], but .* only with \[1, 1, 1, 0, 1\]"),
    ({"no_rope_layers": [], "no_rope_layer_interval": 2}, "'no_rope_layer_interval' is 2, but .* only with 4"),
    ({"attention_chunk_size": 4096}, "'attention_chunk_size' is 4096, but .* only with 8192"),
    ({"attn_temperature_tuning": False}, "'attn_temperature_tuning' is False"),
    ({"floor_scale": 4096}, "'floor_scale' is 4096, but .* only with 8192"),
    ({"attn_scale": 0.2}, "'attn_scale' is 0.2, but .* only with 0.1"),
    ({"attention_bias": True}, "'attention_bias' is True"),
    ({"use_qk_norm": False}, "'use_qk_norm' is False, but llama.cpp runs llama4 of 4 experts only with True"),
    ({"num_local_experts": 128}, "'use_qk_norm' is True, but llama.cpp runs llama4 of 128 experts only with False"),
    ({"num_local_experts": 0}, "'num_local_experts' is 0"),
    ({"num_experts_per_tok": 5}, "'num_experts_per_tok' is 5, but 'num_local_experts' is only 4"),
    ({"moe_layers": [1, 2]}, r"'moe_layers' is \[1, 2\], but .* every second, every third and so on of 5"),
    ({"moe_layers": [5]}, r"'moe_layers' is \[5\]"),
    ({"moe_layers": "all"}, "'moe_layers' is 'all'"),
    ({"layer_types": ["full_attention"]}, "'layer_types' is .* a list of 5"),
    ({"layer_types": ["sliding_attention"] * 5}, "'layer_types' is .* chunked_attention expected"),
    ({"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
    ({"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, "rope scaling 'longrope'"),
    (
        {"rope_parameters": LLAMA3 | {"low_freq_factor": 4.0, "high_freq_factor": 1.0}},
        "rope high_freq_factor 1.0 is below low_freq_factor 4.0",
    ),
]


@pytest.fixture
def checkpoint(checkpoints: Mapping[str, Path]) -> Path:
    return checkpoints["llama4"]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_refused(changes: dict[str, Any], message: str, refused: Callable[..., None]) -> None:
    refused("llama4", changes, message)


def test_experts_of_another_length_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    model = with_config(checkpoint, tmp_path / "model", {"intermediate_size": 64})
    with pytest.raises(CheckpointError, match=r"gate_up_proj: shape \[4, 256, 192\] found, \[4, 256, 128\] expected"):
        convert(model, "f32", tmp_path / "out.gguf", verify="none")


def test_true_as_the_first_files_have_it(checkpoint: Path, tmp_path: Path) -> None:
    model = with_config(checkpoint, tmp_path / "published", {"attn_temperature_tuning": 4})
    found, usual = (
        convert(path, "f32", tmp_path / f"{path.name}.gguf", verify="none").output for path in (model, checkpoint)
    )
    assert llama_cpp_oracle.tensors(found) == llama_cpp_oracle.tensors(usual)


def test_experts_one_by_one(checkpoint: Path, tmp_path: Path) -> None:
    """One matrix for each expert and projection, as quantizing tools write them, is the same model."""
    from safetensors.torch import load_file, save_file

    separate = {}
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        prefix, _, projection = name.rpartition(".")
        if not prefix.endswith(".experts"):
            separate[name] = tensor
            continue
        names = ["gate_proj", "up_proj"] if projection == "gate_up_proj" else ["down_proj"]
        for number, expert in enumerate(tensor):
            for single, part in zip(names, expert.T.chunk(len(names)), strict=True):
                separate[f"{prefix}.{number}.{single}.weight"] = part.contiguous()
    other = with_config(checkpoint, tmp_path / "separate", {})
    (other / "model.safetensors").unlink()
    save_file(separate, other / "model.safetensors", {"format": "pt"})
    outputs = [
        convert(model, "f32", tmp_path / f"{model.name}.gguf", verify="none").output for model in (checkpoint, other)
    ]
    assert llama_cpp_oracle.tensors(outputs[0]) == llama_cpp_oracle.tensors(outputs[1])


def test_beyond_a_chunk(tmp_path: Path) -> None:
    """Positions from 8191 on: queries of layers without rope grow there, and a new chunk begins at 8192."""
    model = write_model(
        tmp_path / "model", "llama4", vocab_size=512, num_hidden_layers=4, hidden_size=64, num_attention_heads=1,
        num_key_value_heads=1, max_position_embeddings=16384, moe_layers=[],
    )  # fmt: skip
    tokens = [0, *np.random.default_rng(7).integers(2, 500, 8255).tolist()]
    found = llama_cpp_oracle.logits(convert(model, "f32", tmp_path / "f32.gguf", verify="none").output, tokens)

    def logits(**changes: Any) -> NDArray[np.float32]:
        import torch
        import transformers

        config = transformers.AutoConfig.from_pretrained(model, **changes)
        loaded = transformers.AutoModelForCausalLM.from_pretrained(model, config=config, attn_implementation="sdpa")
        with torch.no_grad():
            return loaded(torch.tensor([tokens]), logits_to_keep=128).logits[0].numpy()

    def difference(expected: NDArray[np.float32]) -> float:
        return float(np.abs(found[-128:] - expected).max() / np.abs(expected).max())

    assert difference(logits()) < 3e-4
    assert difference(logits(attention_chunk_size=16384)) > 1e-2
    assert difference(logits(attn_temperature_tuning=False)) > 1e-2
