"""AFMoE: windows shorter than the test's text, dense first layers, the ropes that llama.cpp runs."""

from typing import Any

from checkpoint_layouts import config_with, fused
from variation import Variation

AFMOE = {
    "num_hidden_layers": 5,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "sliding_window": 24,
    "moe_intermediate_size": 96,
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "num_shared_experts": 1,
    "route_scale": 2.826,
    "mup_enabled": True,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 32}


def as_trained(model: Any) -> None:
    """An embedding as such models have it, small before it is scaled."""
    model.get_input_embeddings().weight.normal_(0, 0.05)


VARIATIONS = [
    Variation(
        "afmoe",
        "AfmoeConfig",
        AFMOE,
        adjust=as_trained,
        # What configs of Arcee's own code say beside it.
        rewrite=config_with(
            score_func="sigmoid", route_norm=True, n_group=1, topk_group=1, num_expert_groups=1, num_limited_groups=1
        ),
    ),
    Variation(
        "afmoe-fused",
        "AfmoeConfig",
        AFMOE | {"num_dense_layers": 2, "num_shared_experts": 2, "num_key_value_heads": 1, "head_dim": 64},
        adjust=as_trained,
        rewrite=fused,
    ),
    Variation(
        "afmoe-tied-sparse",
        "AfmoeConfig",
        AFMOE | {"num_dense_layers": 0, "tie_word_embeddings": True, "num_key_value_heads": 4, "num_hidden_layers": 3},
        adjust=as_trained,
    ),
    Variation("afmoe-yarn", "AfmoeConfig", AFMOE | {"rope_parameters": YARN}, adjust=as_trained),
    Variation(
        "afmoe-linear-older-config",
        "AfmoeConfig",
        AFMOE
        | {"rope_parameters": {"rope_type": "linear", "rope_theta": 50000.0, "factor": 4.0}, "route_scale": 1.0}
        | {"num_key_value_heads": None},
        adjust=as_trained,
        rewrite=config_with(
            rope_parameters=None, rope_theta=50000.0, rope_scaling={"type": "linear", "factor": 4.0}, layer_types=None
        ),
    ),
]

BYTES = ["afmoe"]
