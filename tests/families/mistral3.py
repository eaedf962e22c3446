"""The text parts of Mistral Small 3.x and Ministral 3 inside checkpoints with a vision tower."""

from pathlib import Path
from typing import Any

from variation import Variation

VISION = {
    "model_type": "pixtral",
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "head_dim": 16,
    "image_size": 28,
    "patch_size": 14,
}
TEXT = {
    "model_type": "mistral",
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 256,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e9},
    "sliding_window": None,
}
#: Ministral 3's, with an original context that the test's tokens exceed several times.
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 16.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}
MINISTRAL = {"model_type": "ministral3", "rope_parameters": YARN}


def as_in_memory(directory: Path) -> None:
    """Names as transformers 5 holds them."""
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(directory)
    model.save_pretrained(directory, save_original_format=False)


def mistral3(name: str, text: dict[str, Any], *, tied: bool, **others: Any) -> Variation:
    arguments = {"vision_config": VISION, "text_config": TEXT | text, "tie_word_embeddings": tied}
    return Variation(name, "Mistral3Config", arguments, "Mistral3ForConditionalGeneration", **others)


VARIATIONS = [
    mistral3("mistral-small3", {}, tied=False),
    mistral3("mistral-small3-tied", {"head_dim": 64, "num_key_value_heads": 1}, tied=True, rewrite=as_in_memory),
    mistral3("ministral3-multimodal", MINISTRAL, tied=True),
    mistral3(
        "ministral3-multimodal-untied",
        MINISTRAL | {"head_dim": 64, "num_key_value_heads": 4},
        tied=False,
        rewrite=as_in_memory,
    ),
]

BYTES = ["mistral-small3"]
