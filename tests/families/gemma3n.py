"""Gemma 3n, also inside its multimodal checkpoint."""

import json
from pathlib import Path
from typing import Any

from variation import Variation

#: Wide, since llama.cpp estimates the gates' deviation with n - 1 for n: a difference that vanishes in real models.
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 4096,
    "head_dim": 32,
    "num_key_value_heads": 2,
    "num_hidden_layers": 6,
    "num_kv_shared_layers": 0,
    "activation_sparsity_pattern": [0.95] * 6,
    "vocab_size_per_layer_input": 448,
    "sliding_window": 24,
    "pad_token_id": 0,
}
SLIDING, FULL = "sliding_attention", "full_attention"
ROPES = {
    FULL: {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    SLIDING: {"rope_type": "default", "rope_theta": 20000.0},
}


def deep(layers: int) -> dict[str, Any]:
    """Deep enough that layers share keys and values."""
    return SMALL | {
        "num_hidden_layers": layers,
        "num_kv_shared_layers": layers - 20,
        "activation_sparsity_pattern": [0.95] * 10 + [0.0] * (layers - 10),
        "intermediate_size": [4096] * layers,
    }


def spread(model: Any) -> None:
    """Softer attention, since queries are not scaled, and steps that many layers do not add up to noise."""
    model.get_input_embeddings().weight.normal_(0, 0.1)
    for name, parameter in model.named_parameters():
        if "altup" in name and "coefs" in name:
            parameter.normal_(0, 0.1)
        elif name.endswith(
            ("q_norm.weight", "k_norm.weight", "post_feedforward_layernorm.weight", "_input_norm.weight")
        ):
            parameter.uniform_(0.2, 0.6)


def gemma3n(name: str, arguments: dict[str, Any], **others: Any) -> Variation:
    return Variation(name, "Gemma3nTextConfig", arguments, "Gemma3nForCausalLM", adjust=spread, **others)


def without_defaults(directory: Path) -> None:
    """Without the fields that transformers works out itself."""
    config = json.loads((directory / "config.json").read_text())
    for name in ("activation_sparsity_pattern", "laurel_rank", "altup_num_inputs", "final_logit_softcapping"):
        del config[name]
    (directory / "config.json").write_text(json.dumps({**config, "intermediate_size": 4096}))


def as_published(directory: Path) -> None:
    """The multimodal checkpoint around it, its ropes spelled as before transformers 5. Layers that share keys and
    values still have weights for them."""
    import torch
    from safetensors.torch import load_file, save_file

    config = json.loads((directory / "config.json").read_text())
    ropes = config.pop("rope_parameters")
    config |= {
        "rope_theta": ropes[FULL].pop("rope_theta"),
        "rope_local_base_freq": ropes[SLIDING]["rope_theta"],
        "rope_scaling": ropes[FULL],
    }
    whole = {
        "architectures": ["Gemma3nForConditionalGeneration"],
        "model_type": "gemma3n",
        "text_config": config,
        "vision_config": {"model_type": "gemma3n_vision", "architecture": "mobilenetv5_300m_enc"},
        "audio_config": {"model_type": "gemma3n_audio"},
    }
    (directory / "config.json").write_text(json.dumps(whole))
    tensors = {
        name.replace("model.", "model.language_model.", 1): tensor
        for name, tensor in load_file(directory / "model.safetensors").items()
    }
    for layer in range(20, config["num_hidden_layers"]):
        for name in ("k_proj", "v_proj", "k_norm"):
            own = f"model.language_model.layers.{layer}.self_attn.{name}.weight"
            tensors[own] = torch.randn_like(tensors[own.replace(f".{layer}.", ".19.")])
    for name in (
        "vision_tower.timm_model.conv_stem.conv.weight",
        "audio_tower.conformer.0.norm.weight",
        "embed_vision.embedding_projection.weight",
        "embed_audio.embedding.weight",
    ):
        tensors[f"model.{name}"] = torch.ones(4)
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})


SHARING = deep(22) | {"layer_types": ([SLIDING] * 4 + [FULL]) * 4 + [SLIDING, FULL]}

VARIATIONS = [
    gemma3n("gemma3n-shared", SHARING, rewrite=without_defaults),
    gemma3n("gemma3n-multimodal", SHARING | {"rope_parameters": ROPES}, rewrite=as_published),
    gemma3n("gemma3n-short", SMALL | {"rope_parameters": ROPES}),
    gemma3n("gemma3n-untied", SMALL | {"tie_word_embeddings": False, "num_key_value_heads": 4, "head_dim": 16}),
    gemma3n("gemma3n-all-windows", SMALL | {"layer_types": [SLIDING] * 6, "num_key_value_heads": 1}),
    gemma3n("gemma3n-large-layer-vocabulary", SMALL | {"vocab_size_per_layer_input": 600}),
]

BYTES = ["gemma3n-short"]
