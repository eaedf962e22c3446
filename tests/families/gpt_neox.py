"""GPT-NeoX, whose attention and feed-forward stand side by side or in turn."""

from pathlib import Path

from variation import Variation

NEOX = {"hidden_size": 128}


def with_old_fields(directory: Path) -> None:
    """The rope's fields as transformers 4 wrote them, and the buffers that checkpoints held then."""
    import json

    import torch
    from safetensors.torch import load_file, save_file

    config = json.loads((directory / "config.json").read_text())
    parameters = config.pop("rope_parameters")
    config |= {"rotary_pct": parameters["partial_rotary_factor"], "rotary_emb_base": parameters["rope_theta"]}
    (directory / "config.json").write_text(json.dumps(config))
    tensors = load_file(directory / "model.safetensors")
    for layer in range(2):
        tensors[f"gpt_neox.layers.{layer}.attention.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool)
        tensors[f"gpt_neox.layers.{layer}.attention.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})


def rope(partial: float, theta: float = 10000.0, **scaling: object) -> dict[str, object]:
    return {
        "rope_parameters": {"rope_theta": theta, "partial_rotary_factor": partial, "rope_type": "default"} | scaling
    }


VARIATIONS = [
    Variation("gpt-neox", "GPTNeoXConfig", NEOX | {"intermediate_size": 320}),
    Variation("gpt-neox-sequential", "GPTNeoXConfig", NEOX | {"use_parallel_residual": False} | rope(1.0)),
    Variation("gpt-neox-tied-unbiased", "GPTNeoXConfig", NEOX | {"tie_word_embeddings": True, "attention_bias": False}),
    Variation(
        "gpt-neox-linear",
        "GPTNeoXConfig",
        NEOX | rope(0.5, rope_type="linear", factor=4.0) | {"hidden_act": "gelu_new"},
    ),
    Variation("gpt-neox-old", "GPTNeoXConfig", NEOX | rope(0.5, 25000.0), rewrite=with_old_fields),
]

BYTES = ["gpt-neox"]
