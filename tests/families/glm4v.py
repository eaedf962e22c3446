"""The text parts of GLM-4.1V, GLM-4.5V, GLM-OCR and PaddleOCR-VL, in the layouts of files published and saved."""

import json
from pathlib import Path
from typing import Any

from checkpoint_layouts import spread_choice
from variation import Variation

TEXT = {
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 320,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
}
VISION = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_heads": 2,
    "out_hidden_size": 256,
    "image_size": 28,
}
EXPERTS = {
    "num_hidden_layers": 3,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_shared_experts": 2,
    "moe_intermediate_size": 96,
}
PADDLE_VISION = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
}


def turned(share: float, sections: list[int], theta: float = 10000.0, **others: Any) -> dict[str, Any]:
    return {
        "rope_type": "default",
        "rope_theta": theta,
        "partial_rotary_factor": share,
        "mrope_section": sections,
        **others,
    }


HALF = {"rope_parameters": turned(0.5, [8, 12, 12])}
YARN = turned(0.5, [8, 12, 12], rope_type="yarn", factor=4.0, original_max_position_embeddings=32)


def of(vision: dict[str, Any], text: dict[str, Any], *, tied: bool = False) -> dict[str, Any]:
    return {"vision_config": vision, "text_config": TEXT | text, "tie_word_embeddings": tied}


def as_published(directory: Path) -> None:
    """config.json of GLM-4.1V's and GLM-4.5V's files: the rope's share of a head beside its scaling."""
    path = directory / "config.json"
    config = json.loads(path.read_text())
    text = config["text_config"]
    rope = text.pop("rope_parameters")
    text["rope_theta"], text["partial_rotary_factor"] = rope["rope_theta"], rope["partial_rotary_factor"]
    text["rope_scaling"] = {"type": "default", "mrope_section": rope["mrope_section"]}
    text["tie_word_embeddings"] = config.pop("tie_word_embeddings")
    path.write_text(json.dumps(config))


def as_in_memory(directory: Path) -> None:
    """Names and shapes as transformers 5 holds them."""
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(directory)
    model.save_pretrained(directory, save_original_format=False)


def with_a_predicting_layer(directory: Path) -> None:
    """One more layer, with names of the sixteen before it as well, as GLM-OCR's file holds one."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    more = {f"model.language_model.layers.16.{name}.weight": torch.ones(4) for name in ("eh_proj", "input_layernorm")}
    save_file(tensors | more, directory / "model.safetensors", {"format": "pt"})


def flat_paddle(directory: Path) -> None:
    """config.json and names of PaddleOCR-VL's file: the text's fields on top, tensors as in its own code."""
    from safetensors.torch import load_file, save_file

    path = directory / "config.json"
    config = json.loads(path.read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    outside = ("model_type", "dtype", "tie_word_embeddings", "architectures")
    kept = {name: value for name, value in text.items() if name not in outside}
    scaling = {"type": "default", "rope_type": "default", "mrope_section": rope["mrope_section"]}
    path.write_text(json.dumps({**config, **kept, "rope_theta": rope["rope_theta"], "rope_scaling": scaling}))
    names = {"model.language_model.": "model.", "model.visual.": "visual.", "model.projector.": "mlp_AR."}
    tensors = load_file(directory / "model.safetensors")
    for ours, published in names.items():
        tensors = {
            published + name.removeprefix(ours) if name.startswith(ours) else name: tensor
            for name, tensor in tensors.items()
        }
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})


GLM = ("Glm4vConfig", "Glm4vForConditionalGeneration")
GLM_MOE = ("Glm4vMoeConfig", "Glm4vMoeForConditionalGeneration")
OCR = ("GlmOcrConfig", "GlmOcrForConditionalGeneration")
PADDLE = ("PaddleOCRVLConfig", "PaddleOCRVLForConditionalGeneration")


def variation(name: str, classes: tuple[str, str], arguments: dict[str, Any], **others: Any) -> Variation:
    return Variation(name, classes[0], arguments, classes[1], **others)


VARIATIONS = [
    variation("glm4v", GLM, of(VISION, HALF)),
    variation("glm4v-published-tied", GLM, of(VISION, HALF, tied=True), rewrite=as_published),
    variation(
        "glm4v-whole-heads",
        GLM,
        of(
            VISION,
            {
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
                "rope_parameters": {"rope_type": "default", "rope_theta": 20000.0},
            },
        ),
        rewrite=as_in_memory,
    ),
    variation("glm4v-yarn", GLM, of(VISION, {"rope_parameters": YARN, "num_key_value_heads": 2})),
    variation("glm4vmoe", GLM_MOE, of(VISION, EXPERTS | HALF), adjust=spread_choice),
    variation(
        "glm4vmoe-fused",
        GLM_MOE,
        of(
            VISION,
            EXPERTS
            | {
                "rope_parameters": turned(0.5, [4, 6, 6]),
                "head_dim": 64,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "attention_bias": False,
                "n_group": 4,
                "topk_group": 2,
                "norm_topk_prob": False,
                "routed_scaling_factor": 1.5,
            },
            tied=True,
        ),
        adjust=spread_choice,
        rewrite=as_in_memory,
    ),
    variation(
        "glm4vmoe-published",
        GLM_MOE,
        of(VISION, EXPERTS | HALF | {"first_k_dense_replace": 2, "num_key_value_heads": 2}),
        adjust=spread_choice,
        rewrite=as_published,
    ),
    variation(
        "glm-ocr",
        OCR,
        of(
            VISION,
            {"head_dim": 128, "num_attention_heads": 4, "rope_parameters": turned(1.0, [16, 24, 24])},
        ),
        rewrite=with_a_predicting_layer,
    ),
    variation(
        "glm-ocr-tied",
        OCR,
        of(VISION, HALF | {"num_key_value_heads": 2}, tied=True),
        rewrite=as_published,
    ),
    variation(
        "paddleocr-vl",
        PADDLE,
        of(
            PADDLE_VISION,
            {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5, "mrope_section": [16, 24, 24]}},
        ),
        rewrite=flat_paddle,
    ),
    variation("paddleocr-vl-nested-tied", PADDLE, of(PADDLE_VISION, {"num_key_value_heads": 2}, tied=True)),
    variation(
        "paddleocr-vl-short-heads",
        PADDLE,
        of(
            PADDLE_VISION,
            {
                "tie_word_embeddings": False,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
                "head_dim": 32,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]},
            },
        ),
        rewrite=as_in_memory,
    ),
]

BYTES = ["glm4v", "paddleocr-vl"]
