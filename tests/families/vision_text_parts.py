"""The text parts of LLaVA, Idefics3 and SmolVLM, InternVL, LFM2-VL and EXAONE 4.5, inside the whole checkpoints."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from variation import Variation

SMALL = {
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 320,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
CLIP = {"model_type": "clip_vision_model", **VISION}
PIXTRAL = {"model_type": "pixtral", "head_dim": 16, **VISION}
INTERN = VISION | {"image_size": [28, 28], "patch_size": [14, 14]}
SIGLIP2 = {"model_type": "siglip2_vision_model", "num_patches": 16} | {
    name: value for name, value in VISION.items() if name != "image_size"
}
EXAONE_VISION = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_heads": 2,
    "num_key_value_heads": 1,
    "out_hidden_size": 256,
    "fullatt_block_indexes": [0],
}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 96, "norm_topk_prob": True}
SHORT_CONVOLUTIONS = {
    "num_hidden_layers": 3,
    "layer_types": ["conv", "full_attention", "conv"],
    "block_multiple_of": 64,
    "block_ffn_dim_multiplier": 0.8,
}
WITHOUT_WINDOWS = {"sliding_window": None, "layer_types": ["full_attention"] * 2}
SCALED = WITHOUT_WINDOWS | {"rope_parameters": LLAMA3, "num_key_value_heads": 4}
WINDOWS = {
    "num_hidden_layers": 64,
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 96,
    "sliding_window": 24,
    "rope_parameters": LLAMA3,
}


def of(vision: dict[str, Any], kind: str, text: dict[str, Any], *, tied: bool = False) -> dict[str, Any]:
    return {
        "vision_config": vision,
        "text_config": SMALL | {"model_type": kind} | text,
        "tie_word_embeddings": tied,
    }


def as_in_memory(directory: Path) -> None:
    """Names as transformers 5 holds them."""
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(directory)
    model.save_pretrained(directory, save_original_format=False)


def with_text(*, whole: dict[str, Any] | None = None, **changes: Any) -> Callable[[Path], None]:
    """A rewrite that changes fields of ``text_config``, or with ``whole`` beside it; None removes a field."""

    def changed(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in (fields | changes).items() if value is not None or name not in changes}

    def rewrite(directory: Path) -> None:
        path = directory / "config.json"
        config = changed(json.loads(path.read_text()), whole or {})
        config["text_config"] = changed(config["text_config"], changes)
        path.write_text(json.dumps(config))

    return rewrite


def with_more_tensors(*names: str) -> Callable[[Path], None]:
    """A rewrite that adds tensors which transformers passes by."""

    def rewrite(directory: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        tensors = load_file(directory / "model.safetensors")
        more = {name: torch.ones(4) for name in names}
        save_file(tensors | more, directory / "model.safetensors", {"format": "pt"})

    return rewrite


LLAVA = ("LlavaConfig", "LlavaForConditionalGeneration")
IDEFICS = ("Idefics3Config", "Idefics3ForConditionalGeneration")
SMOLVLM = ("SmolVLMConfig", "SmolVLMForConditionalGeneration")
INTERNVL = ("InternVLConfig", "InternVLForConditionalGeneration")
LFM2 = ("Lfm2VlConfig", "Lfm2VlForConditionalGeneration")
EXAONE = ("Exaone4_5_Config", "Exaone4_5_ForConditionalGeneration")


def variation(
    name: str, classes: tuple[str, str], arguments: dict[str, Any], rewrite: Callable[[Path], None] | None = None
) -> Variation:
    return Variation(name, classes[0], arguments, classes[1], rewrite=rewrite)


VARIATIONS = [
    variation("llava", LLAVA, of(CLIP, "llama", {"rms_norm_eps": 1e-5})),
    variation(
        "llava-tied-llama3",
        LLAVA,
        of(CLIP, "llama", {"rope_parameters": LLAMA3, "num_key_value_heads": 1}, tied=True),
        as_in_memory,
    ),
    # Files from before transformers 5 tie in text_config alone.
    variation(
        "llava-tied-in-text-linear",
        LLAVA,
        of(CLIP, "llama", {"rope_parameters": LINEAR, "num_key_value_heads": 4}, tied=True),
        with_text(whole={"tie_word_embeddings": None}, tie_word_embeddings=True, model_type=None),
    ),
    variation(
        "llava-pixtral",
        LLAVA,
        of(
            PIXTRAL,
            "mistral",
            {
                "head_dim": 32,
                "sliding_window": None,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e9},
            },
        ),
    ),
    variation(
        "llava-qwen2", LLAVA, of(CLIP, "qwen2", {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}})
    ),
    variation("idefics3", IDEFICS, of(VISION, "llama", {"rope_parameters": LLAMA3})),
    variation("smolvlm", SMOLVLM, of(VISION, "llama", {"num_key_value_heads": 4, "rms_norm_eps": 1e-5})),
    variation(
        "smolvlm-tied",
        SMOLVLM,
        of(VISION, "llama", {"num_key_value_heads": 1, "head_dim": 32}, tied=True),
        with_text(model_type=None),
    ),
    variation("internvl-qwen2", INTERNVL, of(INTERN, "qwen2", {"rms_norm_eps": 1e-6})),
    variation(
        "internvl-qwen2-tied",
        INTERNVL,
        of(INTERN, "qwen2", {"num_key_value_heads": 1, "rope_parameters": LINEAR}, tied=True),
        with_text(whole={"tie_word_embeddings": None}, model_type=None),
    ),
    variation("internvl-qwen3", INTERNVL, of(INTERN, "qwen3", {"head_dim": 32}, tied=True), as_in_memory),
    variation("internvl-qwen3-moe", INTERNVL, of(INTERN, "qwen3_moe", EXPERTS | {"head_dim": 64})),
    variation(
        "internvl-qwen3-moe-fused",
        INTERNVL,
        of(INTERN, "qwen3_moe", EXPERTS | {"num_key_value_heads": 1}, tied=True),
        as_in_memory,
    ),
    variation("internvl-llama", INTERNVL, of(INTERN, "llama", {"rope_parameters": LLAMA3})),
    variation("lfm2vl", LFM2, of(SIGLIP2, "lfm2", SHORT_CONVOLUTIONS, tied=True)),
    variation(
        "lfm2vl-untied",
        LFM2,
        of(
            SIGLIP2,
            "lfm2",
            SHORT_CONVOLUTIONS | {"num_key_value_heads": 1, "conv_L_cache": 4, "block_auto_adjust_ff_dim": False},
        ),
    ),
    variation(
        "lfm2vl-older-config",
        LFM2,
        of(SIGLIP2, "lfm2", SHORT_CONVOLUTIONS | {"intermediate_size": 512, "num_key_value_heads": 4}, tied=True),
        with_text(
            whole={"tie_word_embeddings": None, "tie_embedding": True},
            tie_embedding=False,
            layer_types=None,
            full_attn_idxs=[1],
            intermediate_size=4711,
            block_ff_dim=512,
            rope_parameters=None,
            rope_theta=1e6,
        ),
    ),
    variation("exaone45", EXAONE, of(EXAONE_VISION, "exaone4", WITHOUT_WINDOWS)),
    variation(
        "exaone45-tied-older-type",
        EXAONE,
        of(
            EXAONE_VISION, "exaone4", WITHOUT_WINDOWS | {"rope_parameters": LLAMA3, "num_key_value_heads": 4}, tied=True
        ),
        with_text(model_type="exaone4_5_text"),
    ),
    variation(
        "exaone45-windows",
        EXAONE,
        of(EXAONE_VISION | {"out_hidden_size": 64}, "exaone4", WINDOWS),
        with_more_tensors("mtp.fc.weight", "mtp.layers.0.input_layernorm.weight"),
    ),
]

BYTES = ["smolvlm", "lfm2vl", "internvl-qwen3-moe"]
