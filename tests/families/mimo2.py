"""MiMo V2 Flash in transformers' own layouts and as published."""

from pathlib import Path
from typing import Any

from checkpoint_layouts import config_with, fused, spread_choice
from variation import Variation

MIMO = {
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 320,
    "head_dim": 48,
    "v_head_dim": 32,
    "moe_intermediate_size": 96,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "sliding_window": 17,
    "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
}


def with_sinks(model: Any) -> None:
    spread_choice(model)
    for layer in model.model.layers:
        if layer.self_attn.sinks is not None:
            layer.self_attn.sinks.normal_(0, 2.0)


def ropes(full: float, windowed: float, share: float) -> dict[str, Any]:
    return {
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": share}
            for kind, theta in (("full_attention", full), ("sliding_attention", windowed))
        }
    }


def published(directory: Path) -> None:
    """Fields as the published config.json has them; none that only transformers writes."""
    config_with(
        attention_value_scale=0.707, add_full_attention_sink_bias=False, add_swa_attention_sink_bias=True,
        sliding_window=16, sliding_window_size=16, attention_chunk_size=16, hybrid_block_size=None,
        hybrid_layer_pattern=[0, 1, 1, 1, 1, 0, 1], moe_layer_freq=[0, 1, 1, 1, 1, 1, 1],
        layernorm_epsilon=1e-5, partial_rotary_factor=0.334, rope_theta=5000000, swa_rope_theta=10000,
        scoring_func="sigmoid", topk_method="noaux_tc", swa_head_dim=48, swa_v_head_dim=32,
        swa_num_attention_heads=8, swa_num_key_value_heads=4, rms_norm_eps=None, layer_types=None,
        mlp_layer_types=None, rope_parameters=None,
    )(directory)  # fmt: skip


VARIATIONS = [
    Variation("mimo2", "MiMoV2FlashConfig", MIMO, adjust=with_sinks),
    Variation(
        "mimo2-published",
        "MiMoV2FlashConfig",
        MIMO | {"num_hidden_layers": 7, "layer_types": None},
        adjust=with_sinks,
        rewrite=published,
    ),
    Variation(
        "mimo2-fused-tied",
        "MiMoV2FlashConfig",
        MIMO
        | {"tie_word_embeddings": True, "num_key_value_heads": 1, "attention_value_scale": None}
        | {"mlp_layer_types": ["sparse", "dense", "sparse", "dense"]}
        | ropes(2e5, 5e3, 0.5),
        adjust=with_sinks,
        rewrite=fused,
    ),
    Variation(
        "mimo2-all-heads",
        "MiMoV2FlashConfig",
        MIMO
        | {"num_key_value_heads": 4, "num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]}
        | {"v_head_dim": 48, "attention_value_scale": 1.3, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 2},
        adjust=with_sinks,
    ),
]

BYTES = ["mimo2"]
