"""SmolLM3: no rope in every fourth layer."""

from checkpoint_layouts import config_with
from variation import Variation

SMOLLM3 = {"num_key_value_heads": 2, "num_hidden_layers": 5, "intermediate_size": 320}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}

VARIATIONS = [
    Variation("smollm3", "SmolLM3Config", SMOLLM3),
    Variation(
        "smollm3-untied-yarn",
        "SmolLM3Config",
        SMOLLM3 | {"tie_word_embeddings": False, "num_key_value_heads": 4, "rope_parameters": YARN},
    ),
    Variation(
        "smollm3-head-dim",
        "SmolLM3Config",
        SMOLLM3 | {"head_dim": 32, "num_key_value_heads": 1},
        rewrite=config_with(no_rope_layers=None, tie_word_embeddings=None, layer_types=None),
    ),
]
