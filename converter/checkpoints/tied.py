"""An output matrix that is the embedding, saved under both names as one piece of memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from converter.checkpoints.safetensors import SafetensorsTensor
from converter.checkpoints.strided import StridedTensor

HEADS = ("lm_head.weight", "embed_out.weight", "language_model.lm_head.weight")
"""What output matrices are called."""
COPIES = (*HEADS, "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
"""Tensors that a model may make of its embedding."""


def may_be_tied(config: Mapping[str, Any], name: str) -> bool:
    """Whether a tensor may be the embedding under another name; what config.json does not say, its class decides."""
    return name in COPIES and False not in _said(config)


def _said(config: Mapping[str, Any]) -> list[Any]:
    """What config.json says of ``tie_word_embeddings``, of the whole and of its text part."""
    text = config.get("text_config")
    holders = [config, text] if isinstance(text, dict) else [config]
    return [holder["tie_word_embeddings"] for holder in holders if holder.get("tie_word_embeddings") is not None]


def without_tied_head(
    config: dict[str, Any], tensors: Mapping[str, SafetensorsTensor]
) -> tuple[dict[str, Any], Mapping[str, SafetensorsTensor]]:
    """Leave out an output matrix that lies where another tensor lies, as safetensors files do.

    ``torch.save`` keeps every name of a tensor. Where the configuration does not say whether the two are tied, their
    one place says so; where it says they are not, both stay.

    Returns:
        The configuration, with ``tie_word_embeddings`` if that was left out, and the tensors.
    """
    places: dict[Any, list[str]] = {}
    for name, tensor in tensors.items():
        strides = tensor.strides if isinstance(tensor, StridedTensor) else None
        places.setdefault((id(tensor.file), tensor.offset, tensor.shape, strides), []).append(name)
    shared = [name for names in places.values() if len(names) > 1 for name in names if name in HEADS]
    text, said = config.get("text_config"), _said(config)
    if not shared or False in said:
        return config, tensors
    if not said:
        config = {**config, "tie_word_embeddings": True}
        if isinstance(text, dict):
            config["text_config"] = {**text, "tie_word_embeddings": True}
    return config, {name: tensor for name, tensor in tensors.items() if name not in shared}
