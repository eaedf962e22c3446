"""T5, mT5 and UMT5, whole and as encoders alone."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from variation import Variation

SMALL = {"d_kv": 32, "d_ff": 320, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}


def spread(model: Any) -> None:
    """Weights of the norms about one; scores of attention, which nothing divides, small enough not to be one-hot."""
    import torch

    for name, parameter in model.named_parameters():
        if name.endswith("layer_norm.weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif "relative_attention_bias" in name:
            torch.nn.init.normal_(parameter, 0, 0.5)
        elif name.endswith(("Attention.q.weight", "Attention.k.weight")):
            parameter.mul_(0.3)


def as_first_released(directory: Path) -> None:
    """The embedding thrice and a bias that nothing reads, a config without the decoder's start."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    for part in ("encoder", "decoder"):
        tensors[f"{part}.embed_tokens.weight"] = tensors["shared.weight"].clone()
    tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.ones(32, 4)
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "n_positions": 512}))


def as_version_1_1(directory: Path) -> None:
    """An output matrix of its own, as ``tie_word_embeddings`` says in the published files."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    tensors["lm_head.weight"] = torch.randn(tensors["shared.weight"].shape) / 16
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    config.pop("scale_decoder_outputs", None)
    (directory / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))


Encoder = partial(Variation, model="AutoModelForTextEncoding", adjust=spread)
Whole = partial(Variation, model="AutoModelForSeq2SeqLM", adjust=spread)

ENCODERS = [
    Encoder("t5-encoder", "T5Config", {**SMALL, "feed_forward_proj": "gated-gelu"}),
    Encoder("mt5-encoder", "MT5Config", SMALL),
    Encoder("umt5-encoder", "UMT5Config", {**SMALL, "relative_attention_num_buckets": 16}),
]

ENCODER_DECODERS = [
    Whole("t5", "T5Config", SMALL),
    Whole("t5-first-release", "T5Config", SMALL, rewrite=as_first_released),
    Whole(
        "t5-saved-unscaled",
        "T5Config",
        {**SMALL, "tie_word_embeddings": False, "num_layers": 3, "num_decoder_layers": 2},
    ),
    Whole("t5-1.1", "T5Config", {**SMALL, "feed_forward_proj": "gated-gelu"}, rewrite=as_version_1_1),
    Whole("mt5", "MT5Config", {**SMALL, "d_kv": 48, "num_decoder_layers": 1}),
    Whole("umt5", "UMT5Config", {**SMALL, "decoder_start_token_id": 3, "relative_attention_num_buckets": 16}),
]
