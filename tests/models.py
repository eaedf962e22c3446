"""Random checkpoints of each family, built by transformers, with a real tokenizer trained on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TEXT = [
    "The quick brown fox jumps over the lazy dog, 1234567890 times in 2024.",
    "def convert(model, method):\n    return plan(model, method).run()\n",
    "Don't you think it's fine? We'll see; they've said I'm right.",
]

#: Small models that vary what real ones vary; each entry: transformers' config class and its arguments.
FAMILY_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {"num_key_value_heads": 2}),
    "llama-tied-biased": (
        "LlamaConfig",
        {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4},
    ),
    "llama-head-dim": ("LlamaConfig", {"head_dim": 128, "num_key_value_heads": 1}),
    "llama-rope-llama3": (
        "LlamaConfig",
        {
            "num_key_value_heads": 2,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
    ),
    "llama-rope-linear": (
        "LlamaConfig",
        {"num_key_value_heads": 2, "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    ),
    "llama-rope-yarn": (
        "LlamaConfig",
        {
            "num_key_value_heads": 2,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
    ),
    "llama-rope-yarn-attention-factor": (
        "LlamaConfig",
        {
            "num_key_value_heads": 2,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "attention_factor": 1.5,
                "beta_fast": 16.0,
                "beta_slow": 2.0,
                "original_max_position_embeddings": 32,
            },
        },
    ),
    "mistral": ("MistralConfig", {"num_key_value_heads": 2, "sliding_window": None}),
    "mistral-head-dim": ("MistralConfig", {"num_key_value_heads": 4, "head_dim": 32, "sliding_window": 4096}),
    "qwen2": ("Qwen2Config", {"num_key_value_heads": 2}),
    "qwen2-tied": ("Qwen2Config", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {"num_key_value_heads": 2, "head_dim": 128}),
    "qwen3-tied": ("Qwen3Config", {"num_key_value_heads": 1, "head_dim": 64, "tie_word_embeddings": True}),
}

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


def write_model(directory: Path, family: str, *, dtype: str = "float32", shard: str = "50GB", **overrides: Any) -> Path:
    """A random model of a family with its tokenizer, saved by transformers itself.

    Weights are scaled so that logits spread, norms and biases are moved from their defaults.
    """
    import torch
    import transformers

    torch.manual_seed(sum(map(ord, family)))
    name, arguments = FAMILY_CONFIGS[family]
    config = getattr(transformers, name)(
        **{
            "vocab_size": 512,
            "hidden_size": 256,
            "intermediate_size": 512,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": None,
            **arguments,
            **overrides,
        }
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name:
                parameter.uniform_(0.5, 1.5)
            elif parameter.ndim == 1:
                parameter.normal_(0, 0.3)
            else:
                parameter.normal_(0, 1.5 / parameter.shape[-1] ** 0.5)
        model.get_input_embeddings().weight.normal_(0, 0.5)
    model.to(getattr(torch, dtype)).save_pretrained(directory, max_shard_size=shard)
    write_tokenizer(directory, config.vocab_size)
    return directory
