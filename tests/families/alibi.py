"""BLOOM and MPT, whose attention knows positions by a slope for each head."""

from pathlib import Path

from variation import Variation


def as_first_released(directory: Path) -> None:
    """Names without ``transformer.``, and the fields of BLOOM's own config.json."""
    import json

    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    kept = {name: config[name] for name in ("architectures", "model_type", "vocab_size", "n_layer")}
    kept |= {"n_embed": config["hidden_size"], "num_attention_heads": config["n_head"], "seq_length": 256}
    (directory / "config.json").write_text(json.dumps(kept))


VARIATIONS = [
    Variation("bloom", "BloomConfig", {"hidden_size": 128}),
    Variation("bloom-six-heads", "BloomConfig", {"hidden_size": 192, "n_head": 6, "tie_word_embeddings": False}),
    Variation("bloom-first-release", "BloomConfig", {"hidden_size": 128}, rewrite=as_first_released),
    Variation("mpt", "MptConfig", {"d_model": 128, "hidden_size": 128}),
    Variation(
        "mpt-six-heads-clipped",
        "MptConfig",
        {"hidden_size": 192, "num_attention_heads": 6, "attn_config": {"clip_qkv": 0.75}},
    ),
]

BYTES = ["bloom", "mpt"]
