"""Qwen3.5, dense and with experts, alone and inside the multimodal checkpoint."""

from pathlib import Path

from checkpoint_layouts import config_with, fused
from variation import Variation

#: Sections that cover the eight pairs which a quarter of 64 elements makes.
ROPE = {
    "rope_type": "default",
    "rope_theta": 10000000.0,
    "partial_rotary_factor": 0.25,
    "mrope_interleaved": True,
    "mrope_section": [3, 3, 2],
}
QWEN3_5 = {
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 6,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "rope_parameters": ROPE,
}
EXPERTS = {
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 96,
    "shared_expert_intermediate_size": 160,
    "layer_types": ["linear_attention", "full_attention"],
    "num_hidden_layers": 2,
}
VISION = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_heads": 2,
    "patch_size": 4,
    "out_hidden_size": 256,
    "num_position_embeddings": 16,
}
TEXT = QWEN3_5 | {
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 384,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}


def multimodal(text: dict[str, object], **others: object) -> dict[str, object]:
    return {"text_config": text, "vision_config": VISION, **others}


def with_further_layers(directory: Path) -> None:
    """A layer that predicts a token further ahead, as the published checkpoints hold it beside the model."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    tensors["mtp.fc.weight"] = torch.randn(256, 512)
    tensors["mtp.norm.weight"] = torch.randn(256)
    for name in list(tensors):
        if name.startswith("model.language_model.layers.1."):
            tensors[name.replace("model.language_model.layers.1.", "mtp.layers.0.")] = tensors[name].clone()
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    config_with(text_config={**_text(directory), "mtp_num_hidden_layers": 1})(directory)


def named_as_a_part(directory: Path) -> None:
    """The text model alone under the names that it has inside the multimodal one, which transformers reads too."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    renamed = {name.replace("model.", "model.language_model."): tensor for name, tensor in tensors.items()}
    save_file(renamed, directory / "model.safetensors", {"format": "pt"})


def _text(directory: Path) -> dict[str, object]:
    import json

    return dict(json.loads((directory / "config.json").read_text())["text_config"])


def fused_multimodal(directory: Path) -> None:
    """Experts as the published checkpoints hold them: one tensor for all of a layer's."""
    from transformers import Qwen3_5MoeForConditionalGeneration

    model = Qwen3_5MoeForConditionalGeneration.from_pretrained(directory)
    model.save_pretrained(directory, save_original_format=False)
    with_further_layers(directory)


VARIATIONS = [
    Variation("qwen3.5", "Qwen3_5TextConfig", QWEN3_5),
    Variation(
        "qwen3.5-tied",
        "Qwen3_5TextConfig",
        QWEN3_5
        | {
            "tie_word_embeddings": True,
            "num_key_value_heads": 1,
            "linear_num_key_heads": 4,
            "linear_num_value_heads": 4,
            "linear_conv_kernel_dim": 3,
            "layer_types": ["full_attention", "linear_attention", "linear_attention", "full_attention"],
        },
    ),
    Variation(
        "qwen3.5-yarn",
        "Qwen3_5TextConfig",
        QWEN3_5
        | {
            "num_key_value_heads": 4,
            "linear_num_value_heads": 4,
            "rope_parameters": ROPE
            | {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 10000.0},
        },
    ),
    Variation(
        "qwen3.5-linear",
        "Qwen3_5TextConfig",
        QWEN3_5 | {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    ),
    Variation(
        "qwen3.5-older-config",
        "Qwen3_5TextConfig",
        QWEN3_5 | {"layer_types": ["linear_attention", "full_attention"] * 2},
        rewrite=config_with(
            layer_types=None,
            full_attention_interval=2,
            rope_parameters=None,
            rope_theta=10000.0,
            partial_rotary_factor=0.25,
        ),
    ),
    Variation("qwen3.5-named-as-a-part", "Qwen3_5TextConfig", QWEN3_5, rewrite=named_as_a_part),
    Variation(
        "qwen3.5-multimodal",
        "Qwen3_5Config",
        multimodal(TEXT),
        "AutoModelForImageTextToText",
        rewrite=with_further_layers,
    ),
    Variation(
        "qwen3.5-multimodal-tied",
        "Qwen3_5Config",
        multimodal(TEXT | {"tie_word_embeddings": True}, tie_word_embeddings=True),
        "AutoModelForImageTextToText",
    ),
    Variation("qwen3.5moe", "Qwen3_5MoeTextConfig", QWEN3_5 | EXPERTS),
    Variation(
        "qwen3.5moe-fused-tied",
        "Qwen3_5MoeTextConfig",
        QWEN3_5 | EXPERTS | {"tie_word_embeddings": True, "linear_num_value_heads": 2},
        rewrite=fused,
    ),
    Variation(
        "qwen3.5moe-multimodal",
        "Qwen3_5MoeConfig",
        multimodal({name: value for name, value in (TEXT | EXPERTS).items() if name != "intermediate_size"}),
        "AutoModelForImageTextToText",
    ),
    Variation(
        "qwen3.5moe-multimodal-fused",
        "Qwen3_5MoeConfig",
        multimodal({name: value for name, value in (TEXT | EXPERTS).items() if name != "intermediate_size"}),
        "AutoModelForImageTextToText",
        rewrite=fused_multimodal,
    ),
]

BYTES = ["qwen3.5", "qwen3.5moe"]
