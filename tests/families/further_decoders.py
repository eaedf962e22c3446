"""GPTBigCode (StarCoder, SantaCoder), Jais 2 and DBRX."""

from pathlib import Path

from variation import Variation

SMALL = {"hidden_size": 128, "intermediate_size": 320}
DBRX = {
    "d_model": 128,
    "hidden_size": 128,
    "attn_config": {"kv_n_heads": 2, "clip_qkv": 1.0, "rope_theta": 500000.0},
    "ffn_config": {"ffn_hidden_size": 96, "moe_num_experts": 6, "moe_top_k": 3},
    "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
}


def with_rope_among_attention(directory: Path) -> None:
    """The rope's base only where Databricks' own files have it."""
    import json

    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "rope_parameters": None}))


VARIATIONS = [
    Variation("starcoder", "GPTBigCodeConfig", {"hidden_size": 128, "n_inner": 320}),
    Variation("starcoder-all-heads", "GPTBigCodeConfig", {"hidden_size": 128, "multi_query": False}),
    Variation("jais2", "Jais2Config", SMALL | {"num_key_value_heads": 2, "head_dim": 64}),
    Variation(
        "jais2-tied-unbiased",
        "Jais2Config",
        SMALL | {"num_key_value_heads": 4, "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True},
    ),
    Variation("dbrx", "DbrxConfig", DBRX),
    Variation(
        "dbrx-old",
        "DbrxConfig",
        DBRX
        | {"attn_config": {"kv_n_heads": 4, "clip_qkv": 8.0, "rope_theta": 10000.0}, "rope_parameters": None}
        | {"ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 1}},
        rewrite=with_rope_among_attention,
    ),
]

BYTES = ["starcoder", "dbrx"]
