"""ModernBERT, with windows that the test's text is longer than."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from variation import Variation


def as_first_released(directory: Path) -> None:
    """The fields that transformers 4 wrote."""
    config = json.loads((directory / "config.json").read_text())
    ropes = config.pop("rope_parameters")
    config["global_rope_theta"] = ropes["full_attention"]["rope_theta"]
    config["local_rope_theta"] = ropes["sliding_attention"]["rope_theta"]
    del config["layer_types"]
    config["global_attn_every_n_layers"] = 2
    (directory / "config.json").write_text(json.dumps(config))


def rope(full: float, window: float) -> dict[str, Any]:
    return {
        "full_attention": {"rope_type": "default", "rope_theta": full},
        "sliding_attention": {"rope_type": "default", "rope_theta": window},
    }


Encoder = partial(Variation, config="ModernBertConfig", model="AutoModel")

ENCODERS = [
    Encoder("modern-bert", arguments={"num_hidden_layers": 4, "local_attention": 16, "intermediate_size": 320}),
    Encoder(
        "modern-bert-silu-masked",
        arguments={
            "local_attention": 32,
            "hidden_activation": "silu",
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": rope(500000.0, 1000.0),
        },
        model="AutoModelForMaskedLM",
    ),
    Encoder("modern-bert-no-windows", arguments={"layer_types": ["full_attention"] * 2, "num_attention_heads": 8}),
    Encoder(
        "modern-bert-first-release",
        arguments={
            "local_attention": 8,
            "num_hidden_layers": 3,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            "rope_parameters": rope(80000.0, 5000.0),
        },
        rewrite=as_first_released,
    ),
]
