"""GPT-2, with the files of its first release."""

from pathlib import Path

from variation import Variation


def as_first_released(directory: Path) -> None:
    """Names without ``transformer.``, causal masks among the weights, the fields of 2019."""
    import json

    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    for layer in range(2):
        tensors[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(1, 1, 64, 64))
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    kept = ("architectures", "model_type", "n_embd", "n_head", "n_layer", "n_positions", "vocab_size")
    config = {name: config[name] for name in kept} | {"n_ctx": 256, "activation_function": "gelu_new"}
    (directory / "config.json").write_text(json.dumps(config))


VARIATIONS = [
    Variation("gpt2", "GPT2Config", {"hidden_size": 128}),
    Variation(
        "gpt2-untied-inner",
        "GPT2Config",
        {"tie_word_embeddings": False, "n_inner": 192, "n_head": 2, "hidden_size": 128},
    ),
    Variation("gpt2-first-release", "GPT2Config", {"hidden_size": 128}, rewrite=as_first_released),
]

BYTES = ["gpt2-untied-inner"]
