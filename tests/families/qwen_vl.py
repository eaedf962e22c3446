"""The text parts of Qwen2-VL, Qwen2.5-VL, Qwen3-VL and its mixture, in the layouts of files published and saved."""

import json
from pathlib import Path
from typing import Any

from variation import Variation

TEXT = {
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
QWEN2_VISION = {"depth": 1, "embed_dim": 32, "hidden_size": 256, "num_heads": 2}
QWEN25_VISION = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_heads": 2,
    "out_hidden_size": 256,
    "fullatt_block_indexes": [0],
}
QWEN3_VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_heads": 2,
    "out_hidden_size": 256,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0, 1],
}
SECTIONS = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "mrope_section": [8, 12, 12],
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
INTERLEAVED = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [12, 10, 10], "mrope_interleaved": True}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 96}


def of(vision: dict[str, Any], text: dict[str, Any], *, tied: bool = False) -> dict[str, Any]:
    return {"vision_config": vision, "text_config": TEXT | text, "tie_word_embeddings": tied}


def as_published(directory: Path) -> None:
    """config.json and names of Qwen2-VL's and Qwen2.5-VL's files: the text's fields on top, the rope named mrope."""
    from safetensors.torch import load_file, save_file

    config = json.loads((directory / "config.json").read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    kept = {name: value for name, value in text.items() if name not in ("model_type", "layer_types", "dtype")}
    scaling = {"rope_theta": rope["rope_theta"], "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]}}
    (directory / "config.json").write_text(json.dumps({**kept, **scaling, **config}))
    names = {"model.language_model.": "model.", "model.visual.": "visual."}
    tensors = load_file(directory / "model.safetensors")
    for ours, published in names.items():
        tensors = {
            published + name.removeprefix(ours) if name.startswith(ours) else name: tensor
            for name, tensor in tensors.items()
        }
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})


def as_in_memory(directory: Path) -> None:
    """Names and shapes as transformers 5 holds them."""
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(directory)
    model.save_pretrained(directory, save_original_format=False)


def experts_turned(directory: Path) -> None:
    """Experts' matrices the other way round than they were saved."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    for name, tensor in tensors.items():
        if ".experts." in name:
            tensors[name] = tensor.transpose(1, 2).contiguous()
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})


QWEN2 = "Qwen2VLForConditionalGeneration"
QWEN25 = "Qwen2_5_VLForConditionalGeneration"
QWEN3 = "Qwen3VLForConditionalGeneration"
QWEN3_MOE = "Qwen3VLMoeForConditionalGeneration"

VARIATIONS = [
    Variation("qwen2vl", "Qwen2VLConfig", of(QWEN2_VISION, {"rope_parameters": SECTIONS}), QWEN2),
    Variation(
        "qwen2vl-published",
        "Qwen2VLConfig",
        of(QWEN2_VISION, {"rope_parameters": SECTIONS, "num_key_value_heads": 1}, tied=True),
        QWEN2,
        rewrite=as_published,
    ),
    Variation(
        "qwen25vl",
        "Qwen2_5_VLConfig",
        of(QWEN25_VISION, {"rope_parameters": SECTIONS, "num_key_value_heads": 4}),
        QWEN25,
        rewrite=as_in_memory,
    ),
    Variation(
        "qwen25vl-published-untied",
        "Qwen2_5_VLConfig",
        of(QWEN25_VISION, {"rope_parameters": SECTIONS}),
        QWEN25,
        rewrite=as_published,
    ),
    Variation(
        "qwen25vl-yarn-tied",
        "Qwen2_5_VLConfig",
        of(QWEN25_VISION, {"rope_parameters": YARN}, tied=True),
        QWEN25,
    ),
    # Heads as long as the published models': the rope's sections and the base are transformers' defaults.
    Variation(
        "qwen25vl-long-heads",
        "Qwen2_5_VLConfig",
        of(QWEN25_VISION, {"num_attention_heads": 2, "num_key_value_heads": 1}),
        QWEN25,
    ),
    Variation(
        "qwen3vl",
        "Qwen3VLConfig",
        of(QWEN3_VISION, {"rope_parameters": INTERLEAVED, "head_dim": 64}),
        QWEN3,
    ),
    Variation(
        "qwen3vl-long-heads-tied",
        "Qwen3VLConfig",
        of(QWEN3_VISION, {"num_key_value_heads": 1}, tied=True),
        QWEN3,
        rewrite=as_in_memory,
    ),
    Variation(
        "qwen3vl-yarn",
        "Qwen3VLConfig",
        of(
            QWEN3_VISION,
            {"rope_parameters": YARN | {"mrope_section": [12, 10, 10]}, "head_dim": 64, "num_key_value_heads": 4},
        ),
        QWEN3,
    ),
    Variation(
        "qwen3vlmoe",
        "Qwen3VLMoeConfig",
        of(QWEN3_VISION, EXPERTS | {"rope_parameters": INTERLEAVED, "head_dim": 64}),
        QWEN3_MOE,
    ),
    Variation(
        "qwen3vlmoe-turned",
        "Qwen3VLMoeConfig",
        of(QWEN3_VISION, EXPERTS | {"rope_parameters": INTERLEAVED, "head_dim": 64, "num_key_value_heads": 4}),
        QWEN3_MOE,
        rewrite=experts_turned,
    ),
    Variation(
        "qwen3vlmoe-tied",
        "Qwen3VLMoeConfig",
        of(
            QWEN3_VISION | {"deepstack_visual_indexes": []},
            EXPERTS | {"rope_parameters": INTERLEAVED, "num_key_value_heads": 1},
            tied=True,
        ),
        QWEN3_MOE,
        rewrite=as_in_memory,
    ),
]

BYTES = ["qwen25vl-published-untied", "qwen3vlmoe"]
