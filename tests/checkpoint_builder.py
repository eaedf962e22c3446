"""Random checkpoints of each family, built by transformers, with a real tokenizer trained on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from variation import VARIATIONS

#: Sizes of a model that is built and run in a second; a class that doesn't know one keeps it as an extra field.
DEFAULTS: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}

TEXT = [
    "The quick brown fox jumps over the lazy dog, 1234567890 times in 2024.",
    "def convert(model, method):\n    return plan(model, method).run()\n",
    "Don't you think it's fine? We'll see; they've said I'm right.",
]

#: Pre-tokenizer patterns as these families' tokenizer.json hold them.
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)


def write_tokenizer(directory: Path, vocab_size: int = 512) -> None:
    """A byte-level BPE tokenizer with Llama 3's pre-tokenizer, saved as ``tokenizer.json`` and its config."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|begin_of_text|>", "<|end_of_text|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "bos_token": "<|begin_of_text|>",
                "eos_token": "<|end_of_text|>",
                "tokenizer_class": "PreTrainedTokenizerFast",
            }
        )
    )


def write_model(
    directory: Path, variation: str, *, dtype: str = "float32", shard: str = "50GB", **overrides: Any
) -> Path:
    """A random model with its tokenizer, saved by transformers itself.

    Weights are scaled so that logits spread; norms and biases are moved from their defaults.

    Args:
        directory: where to write.
        variation: a name of ``VARIATIONS``.
        dtype: torch's name of the weights' type.
        shard: largest shard, as ``save_pretrained`` takes it.
        overrides: further arguments of the configuration.
    """
    import torch
    import transformers

    chosen = VARIATIONS[variation]
    torch.manual_seed(sum(map(ord, variation)) + 1000 * chosen.seed)
    config = getattr(transformers, chosen.config)(**{**DEFAULTS, **chosen.arguments, **overrides})
    model_class = getattr(transformers, chosen.model)
    model = model_class.from_config(config) if chosen.model.startswith("Auto") else model_class(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and parameter.ndim == 1 and not name.endswith("bias"):
                parameter.uniform_(0.5, 1.5)
            elif parameter.ndim == 1:
                parameter.normal_(0, 0.3)
            else:
                parameter.normal_(0, 1.5 / parameter.shape[-1] ** 0.5)
        model.get_input_embeddings().weight.normal_(0, 0.5)
        if chosen.adjust is not None:
            chosen.adjust(model)
    model.to(getattr(torch, dtype)).save_pretrained(directory, max_shard_size=shard)
    write_tokenizer(directory, config.get_text_config().vocab_size)
    if chosen.rewrite is not None:
        chosen.rewrite(directory)
    return directory
