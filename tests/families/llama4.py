"""Llama 4, alone and inside its multimodal checkpoint."""

import json
from pathlib import Path

from variation import Variation

#: The first three layers have rope and chunks, the fourth neither; blocks of experts and dense ones differ in length.
LLAMA4 = {
    "num_hidden_layers": 5,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 96,
    "intermediate_size_mlp": 192,
    "num_local_experts": 4,
}
#: As Scout has it: no frequencies between those that stay and those that are divided.
SCOUT_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 16.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 1.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "vision_output_dim": 32,
    "projector_input_dim": 32,
    "projector_output_dim": 32,
}
TEXT = LLAMA4 | {
    "vocab_size": 512,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}


def with_first_fields(directory: Path) -> None:
    """The text model's fields as the first published files have them."""
    path = directory / "config.json"
    config = json.loads(path.read_text())
    text = config["text_config"]
    del text["layer_types"], text["moe_layers"], text["rope_parameters"]
    text |= {"rope_theta": 500000.0, "rope_scaling": None, "no_rope_layers": []}
    path.write_text(json.dumps(config))


VARIATIONS = [
    Variation("llama4", "Llama4TextConfig", LLAMA4 | {"rope_parameters": SCOUT_ROPE}),
    Variation("llama4-dense-between", "Llama4TextConfig", LLAMA4 | {"interleave_moe_layer_step": 2}),
    Variation(
        "llama4-128-experts",
        "Llama4TextConfig",
        LLAMA4
        | {"num_local_experts": 128, "use_qk_norm": False, "num_key_value_heads": 4, "hidden_size": 128}
        | {"interleave_moe_layer_step": 2, "intermediate_size": 32},
    ),
    Variation(
        "llama4-tied-two-used",
        "Llama4TextConfig",
        LLAMA4
        | {"num_experts_per_tok": 2, "tie_word_embeddings": True, "num_key_value_heads": 1, "moe_layers": [2]}
        | {"layer_types": ["chunked_attention"] + ["full_attention"] * 4},
    ),
    Variation(
        "llama4-yarn",
        "Llama4TextConfig",
        LLAMA4 | {"interleave_moe_layer_step": 5, "num_key_value_heads": 4, "rope_parameters": YARN},
    ),
    Variation("llama4-dense", "Llama4TextConfig", LLAMA4 | {"moe_layers": [], "num_local_experts": 0}),
    Variation(
        "llama4-multimodal",
        "Llama4Config",
        {"text_config": TEXT | {"rope_parameters": SCOUT_ROPE}, "vision_config": VISION},
        "Llama4ForConditionalGeneration",
    ),
    Variation(
        "llama4-multimodal-first",
        "Llama4Config",
        {"text_config": TEXT, "vision_config": VISION},
        "Llama4ForConditionalGeneration",
        rewrite=with_first_fields,
    ),
]

BYTES = ["llama4-dense-between"]
