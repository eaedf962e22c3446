"""Phi-3, with and without LongRoPE."""

from pathlib import Path

from variation import Variation

PHI3 = {"hidden_size": 128, "intermediate_size": 320, "bos_token_id": 0, "eos_token_id": 1}


def long_rope(original: int, elements: int, **others: object) -> dict[str, object]:
    """Texts of the tests have 96 tokens."""
    factors = {
        "short_factor": [1.0 + 0.1 * index for index in range(elements // 2)],
        "long_factor": [1.5 + 0.5 * index for index in range(elements // 2)],
    }
    return {
        "original_max_position_embeddings": original,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0} | factors | others,
    }


def with_old_fields(directory: Path) -> None:
    """The rope as Microsoft's own files have it."""
    import json

    config = json.loads((directory / "config.json").read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters["rope_theta"]
    config["partial_rotary_factor"] = parameters["partial_rotary_factor"]
    config["rope_scaling"] = {name: parameters[name] for name in ("short_factor", "long_factor")} | {"type": "longrope"}
    (directory / "config.json").write_text(json.dumps(config))


VARIATIONS = [
    Variation("phi3", "Phi3Config", PHI3 | {"num_key_value_heads": 4, "sliding_window": 2047}),
    Variation(
        "phi3-short",
        "Phi3Config",
        PHI3 | {"num_key_value_heads": 2, "tie_word_embeddings": True} | long_rope(512, 24, partial_rotary_factor=0.75),
    ),
    Variation("phi3-long", "Phi3Config", PHI3 | {"num_key_value_heads": 1} | long_rope(32, 32, attention_factor=1.25)),
    Variation("phi3-old", "Phi3Config", PHI3 | long_rope(64, 32), rewrite=with_old_fields),
]

BYTES = ["phi3-short"]
