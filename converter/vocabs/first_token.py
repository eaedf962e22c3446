"""Which tokenizers put the first token before every text, unless a GGUF says otherwise: llama.cpp's defaults."""

from __future__ import annotations

#: Kinds of vocabularies of which all do.
MODELS = ("llama", "bert")
#: Pre-tokenizers of the byte-level kind that do.
PRE_TOKENIZERS = (
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano", "tekken",
    "chameleon", "gemma4",
)  # fmt: skip


def begins_texts(model: object, pre: object) -> bool:
    """Whether llama.cpp puts the first token before every text by itself.

    Args:
        model: ``tokenizer.ggml.model``.
        pre: ``tokenizer.ggml.pre``.
    """
    return model in MODELS or (model == "gpt2" and pre in PRE_TOKENIZERS)
