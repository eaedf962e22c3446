"""Command A+: windows, experts chosen by a softmax or a sigmoid, shared experts, a dense prefix."""

from pathlib import Path

from checkpoint_layouts import config_with, fused
from variation import Variation

MIXTURE = {
    "hidden_size": 128,
    "head_dim": 32,
    "intermediate_size": 96,
    "num_hidden_layers": 5,
    "num_key_value_heads": 2,
    "logit_scale": 0.5,
    "sliding_window": 24,
    "num_experts": 6,
    "num_experts_per_tok": 3,
}
SIGMOID = MIXTURE | {"expert_selection_fn": "sigmoid", "rms_norm_eps": 1e-5, "head_dim": 48}


def with_layer_beyond(directory: Path) -> None:
    """A layer more that predicts several tokens ahead, as published files have it; transformers does not read it."""
    from safetensors.torch import load_file, save_file

    path = directory / "model.safetensors"
    tensors = load_file(path)
    last = {name: tensor for name, tensor in tensors.items() if name.startswith("model.layers.2.")}
    beyond = {name.replace(".2.", ".3.", 1): tensor.clone() for name, tensor in last.items()}
    save_file(tensors | beyond, path, {"format": "pt"})
    config_with(num_nextn_predict_layers=1)(directory)


VARIATIONS = [
    Variation("cohere2moe", "Cohere2MoeConfig", MIXTURE, rewrite=config_with(layer_types=None, mlp_layer_types=None)),
    Variation(
        "cohere2moe-prefix",
        "Cohere2MoeConfig",
        MIXTURE
        | {"first_k_dense_replace": 2, "prefix_dense_intermediate_size": 160, "num_shared_experts": 2}
        | {"tie_word_embeddings": False, "num_key_value_heads": 1},
        rewrite=config_with(layer_types=None, mlp_layer_types=None, first_k_dense_replace=2),
    ),
    Variation(
        "cohere2moe-sigmoid",
        "Cohere2MoeConfig",
        SIGMOID
        | {"num_shared_experts": 1, "shared_expert_combination_strategy": "sum", "num_key_value_heads": 4}
        | {"mlp_layer_types": ["dense"] + ["sparse"] * 4, "prefix_dense_sliding_window_pattern": 3}
        | {
            "sliding_window_pattern": 2,
            "layer_types": ["sliding_attention", "full_attention"] * 2 + ["full_attention"],
        },
        rewrite=fused,
    ),
    Variation(
        "cohere2moe-unnormed",
        "Cohere2MoeConfig",
        SIGMOID
        | {"num_shared_experts": 1, "norm_topk_prob": False, "num_hidden_layers": 3}
        | {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 50000.0}},
        rewrite=with_layer_beyond,
    ),
]

BYTES = ["cohere2moe-sigmoid"]
