"""Command R and its successor with sliding windows."""

from pathlib import Path

from variation import Variation

COHERE = {"hidden_size": 128, "intermediate_size": 320, "num_key_value_heads": 2, "logit_scale": 0.25}


def with_old_fields(directory: Path) -> None:
    """The layers' pattern by a number, the rope beside the other fields, the share of a head that it rotates."""
    import json

    config = json.loads((directory / "config.json").read_text())
    del config["layer_types"]
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config |= {"sliding_window_pattern": 3, "rotary_pct": 1.0}
    (directory / "config.json").write_text(json.dumps(config))


VARIATIONS = [
    Variation("cohere", "CohereConfig", COHERE),
    Variation(
        "cohere-normed",
        "CohereConfig",
        {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 64, "num_key_value_heads": 1}
        | {
            "logit_scale": 0.25,
            "use_qk_norm": True,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 8e6, "factor": 2.0},
        },
    ),
    Variation("cohere2", "Cohere2Config", COHERE | {"num_hidden_layers": 5, "sliding_window": 24}),
    Variation(
        "cohere2-pattern",
        "Cohere2Config",
        COHERE | {"num_key_value_heads": 4, "layer_types": ["full_attention", "sliding_attention"]},
    ),
    Variation(
        "cohere2-old",
        "Cohere2Config",
        COHERE
        | {"num_hidden_layers": 4, "sliding_window": 16, "sliding_window_pattern": 3}
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 50000.0}},
        rewrite=with_old_fields,
    ),
]

BYTES = ["cohere"]
