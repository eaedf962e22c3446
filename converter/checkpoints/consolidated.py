"""Checkpoints as the authors of Llama and of Mistral publish them: ``params.json`` and ``consolidated.*``.

The models are those of transformers' Llama under other names, and queries and keys have their rows in another order:
there a head rotates neighbouring elements (``view_as_complex`` in Meta's code), in transformers element j and
j + head_dim/2. ``consolidated.NN.pth`` holds what rank NN of a model-parallel run holds: of a column-parallel layer
some of the outputs, of a row-parallel layer some of the inputs, of a norm all (https://github.com/meta-llama/llama,
``llama/model.py``; the layers are fairscale's).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.checkpoints.joined import HalvesTensor, JoinedTensor
from converter.checkpoints.safetensors import SafetensorsTensor
from converter.checkpoints.tensor import SourceTensor
from converter.errors import CheckpointError
from converter.sources.source_file import quoted

PARAMETERS = "params.json"

WHOLE, OUTPUTS, INPUTS, EMBEDDING = "whole", "outputs", "inputs", "embedding"
NAMES: Mapping[str, tuple[str, str]] = {
    r"tok_embeddings\.weight": ("model.embed_tokens.weight", EMBEDDING),
    r"norm\.weight": ("model.norm.weight", WHOLE),
    r"output\.weight": ("lm_head.weight", OUTPUTS),
    r"layers\.(\d+)\.attention_norm\.weight": (r"model.layers.\1.input_layernorm.weight", WHOLE),
    r"layers\.(\d+)\.ffn_norm\.weight": (r"model.layers.\1.post_attention_layernorm.weight", WHOLE),
    r"layers\.(\d+)\.attention\.w([qkv])\.weight": (r"model.layers.\1.self_attn.\2_proj.weight", OUTPUTS),
    r"layers\.(\d+)\.attention\.wo\.weight": (r"model.layers.\1.self_attn.o_proj.weight", INPUTS),
    r"layers\.(\d+)\.feed_forward\.w1\.weight": (r"model.layers.\1.mlp.gate_proj.weight", OUTPUTS),
    r"layers\.(\d+)\.feed_forward\.w2\.weight": (r"model.layers.\1.mlp.down_proj.weight", INPUTS),
    r"layers\.(\d+)\.feed_forward\.w3\.weight": (r"model.layers.\1.mlp.up_proj.weight", OUTPUTS),
}
"""The authors' names, transformers' names, and what a rank holds of the tensor."""

_COMPUTED = "rope.freqs"
_WITHOUT_EFFECT = {
    "multiple_of",
    "ffn_dim_multiplier",
    "vocab_size",
    "hidden_dim",
    "max_batch_size",
    "causal",
    "tied_embeddings",
}
"""Settings whose result is seen in the tensors, or that say nothing about them."""
_ADVICE = f"put the config.json that transformers has for this model beside {PARAMETERS}, or convert its own weights"


@dataclass(frozen=True)
class _Parameters:
    """``params.json``, read field by field; what is left unread is refused at the end."""

    path: Path
    values: Mapping[str, Any]
    known: set[str]

    def integer(self, name: str, default: int | None = None) -> int:
        value = self._get(name, default)
        if type(value) is not int or not 0 < value < 2**31:
            raise self._wrong(name, value, "a positive integer")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self._get(name, default)
        if type(value) not in (int, float) or not 0 < value < 1e12:
            raise self._wrong(name, value, "a positive number")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self._get(name, False)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def _get(self, name: str, default: Any) -> Any:
        self.known.add(name)
        value = self.values.get(name)
        return default if value is None else value

    def _wrong(self, name: str, value: Any, expected: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {name} is {quoted(value)}, {expected} expected; download it again")


def open_original(
    path: Path, values: Mapping[str, Any], ranks: Sequence[Mapping[str, SafetensorsTensor]]
) -> tuple[dict[str, Any], dict[str, SourceTensor]]:
    """A configuration and tensors as transformers has them.

    Args:
        path: of ``params.json``, for messages.
        values: parsed.
        ranks: the stored tensors of each file.

    Raises:
        CheckpointError: settings or tensors that no Llama or Mistral has, or ranks that do not fit together.
    """
    params = _Parameters(path, values, set(_WITHOUT_EFFECT))
    width, heads = params.integer("dim"), params.integer("n_heads")
    kv_heads, head_dim = params.integer("n_kv_heads", heads), params.integer("head_dim", max(1, width // heads))
    tensors: dict[str, SourceTensor] = {}
    for name in ranks[0]:
        if name == _COMPUTED:
            continue
        renamed, kept = _renamed(ranks[0][name])
        parts: list[SourceTensor] = [_part(rank, number, ranks[0][name]) for number, rank in enumerate(ranks)]
        if re.fullmatch(r".*\.w[kv]\.weight", name) and len(parts) > kv_heads and len(parts) % kv_heads == 0:
            parts = parts[:: len(parts) // kv_heads]  # fewer heads than ranks: neighbours hold the same
        tensor = _joined(renamed, kept, parts, width)
        if match := re.fullmatch(r".*\.w([qk])\.weight", name):
            rows = head_dim * (heads if match[1] == "q" else kv_heads)
            if tensor.rows != rows or head_dim % 2:
                raise CheckpointError(
                    f"{path}: tensor {name} has {tensor.rows} rows in {len(ranks)} files, expected {rows} in heads of "
                    f"{head_dim}; are all files of the model here?"
                )
            tensor = HalvesTensor(renamed, tensor.dtype, tensor.shape, tensor, head_dim)
        tensors[renamed] = tensor
    for number, rank in enumerate(ranks):
        for name in sorted(rank.keys() - ranks[0].keys()):
            raise CheckpointError(
                f"{rank[name].file.path}: tensor {name} is not in file 0; download files 0 and {number}"
            )
    return _config(params, tensors, width, heads, kv_heads, head_dim), tensors


def _renamed(tensor: SafetensorsTensor) -> tuple[str, str]:
    for pattern, (renamed, kept) in NAMES.items():
        if match := re.fullmatch(pattern, tensor.name, re.ASCII):
            return match.expand(renamed), kept
    raise CheckpointError(f"{tensor.file.path}: tensor {tensor.name} does not belong to a Llama or Mistral; {_ADVICE}")


def _part(rank: Mapping[str, SafetensorsTensor], number: int, like: SafetensorsTensor) -> SafetensorsTensor:
    """What another file holds of the tensor ``like`` of file 0: as much of the same type."""
    part = rank.get(like.name)
    if part is None or (part.dtype, part.shape) != (like.dtype, like.shape):
        found = "missing" if part is None else f"{part.dtype} {list(part.shape)}"
        raise CheckpointError(
            f"{like.file.path}: tensor {like.name} is {like.dtype} {list(like.shape)} here and {found} in file {number}"
            "; download both"
        )
    return part


def _joined(name: str, kept: str, parts: list[SourceTensor], width: int) -> SourceTensor:
    dtype, shape = parts[0].dtype, parts[0].shape
    if kept == EMBEDDING:  # cut by columns in Llama 1 and 2, by tokens in Llama 3
        kept = OUTPUTS if shape[-1:] == (width,) else INPUTS
    if kept == WHOLE or len(shape) != 2:
        parts = parts[:1]
    axis = 1 if kept == INPUTS else 0
    joined = tuple(size * len(parts) if index == axis and len(parts) > 1 else size for index, size in enumerate(shape))
    return JoinedTensor(name, dtype, joined, tuple(parts), axis)


def _config(
    params: _Parameters, tensors: Mapping[str, SourceTensor], width: int, heads: int, kv_heads: int, head_dim: int
) -> dict[str, Any]:
    """``config.json`` as transformers would have it; sizes are those of the tensors."""
    for name in ("model.embed_tokens.weight", "model.layers.0.mlp.gate_proj.weight"):
        if name not in tensors:
            raise CheckpointError(f"{params.path}: no tensor for {name} in the files; download them again")
    theta, epsilon, scaled = params.number("rope_theta", 1e4), params.number("norm_eps"), params.flag("use_scaled_rope")
    window = params.integer("sliding_window", 2**31 - 1)
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "num_hidden_layers": params.integer("n_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate_size": tensors["model.layers.0.mlp.gate_proj.weight"].rows,
        "vocab_size": tensors["model.embed_tokens.weight"].rows,
        "rms_norm_eps": epsilon,
        "rope_theta": theta,
        "hidden_act": "silu",
        "tie_word_embeddings": "lm_head.weight" not in tensors,
    }
    if "hidden_dim" in params.values:  # which Mistral's have and Meta's do not
        config |= {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None}
        config["sliding_window"] = window if window < 2**31 - 1 else None
    if scaled:
        # 3.2 is the one version with scaled rope below 8B, and the only one with another factor.
        factor = params.number("rope_scaling_factor", 32.0 if width < 4096 else 8.0)
        config["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": params.number("rope_high_freq_factor", 4.0),
            "original_max_position_embeddings": 8192,
        }
    length = next(length for said, length in _context(config, params) if said)
    config["max_position_embeddings"] = params.integer("max_position_embeddings", params.integer("max_seq_len", length))
    for name, value in params.values.items():
        if name not in params.known and value not in (None, False):
            raise CheckpointError(f"{params.path}: {name} is {quoted(value)}, which is not understood; {_ADVICE}")
    return config


def _context(config: Mapping[str, Any], params: _Parameters) -> list[tuple[bool, int]]:
    """Tokens of context by generation, which the authors' files leave out: the first that applies."""
    return [
        ("rope_scaling" in config, 131072),  # Llama 3.1 and 3.2
        (config["model_type"] == "mistral", 32768),
        (config["rope_theta"] == 5e5, 8192),  # Llama 3
        (config["rope_theta"] == 1e6, 16384),  # Code Llama
        (config["rms_norm_eps"] == 1e-5, 4096),  # Llama 2
        (True, 2048),
    ]
