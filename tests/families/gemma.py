"""Gemma, Gemma 2 and Gemma 3, the last also inside its multimodal checkpoint."""

from pathlib import Path
from typing import Any

from variation import Variation

GEMMA = {"hidden_size": 128, "intermediate_size": 320, "head_dim": 32, "num_key_value_heads": 1}
GEMMA2 = GEMMA | {"query_pre_attn_scalar": 32, "sliding_window": 24, "num_key_value_heads": 2}
#: Rope of the layers without a window scaled, that of the others not.
ROPES = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 20000.0},
}
VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def small_embedding(model: Any) -> None:
    """Gemma multiplies its embedding by the root of the width: smaller weights, or the blocks hardly matter."""
    model.get_input_embeddings().weight.normal_(0, 0.05)


def gemma(*arguments: Any, **others: Any) -> Variation:
    return Variation(*arguments, adjust=small_embedding, **others)


def with_copied_output(directory: Path) -> None:
    """The embedding a second time, as some tools save it."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})


def with_old_fields(directory: Path) -> None:
    """The ropes and the layers' pattern as the first files had them."""
    import json

    config = json.loads((directory / "config.json").read_text())
    ropes = config.pop("rope_parameters")
    full = ropes["full_attention"]
    config["rope_theta"] = full.pop("rope_theta")
    config["rope_scaling"] = full
    config["rope_local_base_freq"] = ropes["sliding_attention"]["rope_theta"]
    del config["layer_types"]
    config["sliding_window_pattern"] = 3
    (directory / "config.json").write_text(json.dumps(config))


def with_new_names(directory: Path) -> None:
    """The parts named as transformers names them in memory."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    renamed = {
        f"model.{name.replace('language_model.model.', 'language_model.')}": tensor for name, tensor in tensors.items()
    }
    save_file(renamed, directory / "model.safetensors", {"format": "pt"})


GEMMA3 = GEMMA2 | {"rope_parameters": ROPES}
MULTIMODAL = {
    "vision_config": VISION,
    "mm_tokens_per_image": 4,
    "text_config": GEMMA3 | {"vocab_size": 512, "num_hidden_layers": 2},
}

VARIATIONS = [
    gemma("gemma", "GemmaConfig", GEMMA),
    gemma("gemma-long-heads", "GemmaConfig", GEMMA | {"head_dim": 64, "num_key_value_heads": 4}),
    gemma("gemma-copied-output", "GemmaConfig", GEMMA, rewrite=with_copied_output),
    gemma("gemma2", "Gemma2Config", GEMMA2 | {"num_hidden_layers": 3}),
    gemma(
        "gemma2-capped-low",
        "Gemma2Config",
        GEMMA2 | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0, "num_key_value_heads": 4},
    ),
    gemma(
        "gemma2-uncapped",
        "Gemma2Config",
        GEMMA2
        | {"attn_logit_softcapping": None, "final_logit_softcapping": None}
        | {"num_hidden_layers": 3, "layer_types": ["full_attention", "full_attention", "sliding_attention"]},
    ),
    gemma("gemma3", "Gemma3TextConfig", GEMMA3 | {"num_hidden_layers": 7}),
    gemma(
        "gemma3-untied-capped",
        "Gemma3TextConfig",
        GEMMA2
        | {"tie_word_embeddings": False, "final_logit_softcapping": 10.0, "num_key_value_heads": 1}
        | {"layer_types": ["full_attention", "sliding_attention"]},
    ),
    gemma("gemma3-no-window", "Gemma3TextConfig", GEMMA2 | {"layer_types": ["full_attention"] * 2}),
    gemma(
        "gemma3-old",
        "Gemma3TextConfig",
        GEMMA3 | {"num_hidden_layers": 4, "sliding_window_pattern": 3},
        rewrite=with_old_fields,
    ),
    gemma("gemma3-multimodal", "Gemma3Config", MULTIMODAL, "Gemma3ForConditionalGeneration"),
    gemma(
        "gemma3-multimodal-new-names",
        "Gemma3Config",
        MULTIMODAL,
        "Gemma3ForConditionalGeneration",
        rewrite=with_new_names,
    ),
]

SENTENCES = GEMMA3 | {"use_bidirectional_attention": True, "num_hidden_layers": 7}

ENCODERS = [
    gemma("embedding-gemma", "Gemma3TextConfig", SENTENCES, model="AutoModel"),
    gemma(
        "embedding-gemma-pattern",
        "Gemma3TextConfig",
        SENTENCES | {"num_hidden_layers": 2, "layer_types": ["full_attention", "sliding_attention"]},
        model="AutoModel",
    ),
]

BYTES = ["gemma2"]
