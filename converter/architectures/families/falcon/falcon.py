"""Falcon, old and new decoder: attention and feed-forward side by side, fused queries, keys and values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.architectures.target import Piece, RowMap, TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, string


class Falcon(LayerNormDecoder):
    classes = ("FalconForCausalLM", "RWForCausalLM")
    arch = "falcon"
    defaults: ClassVar = {
        "activation": "gelu",
        "layer_norm_epsilon": 1e-5,
        "max_position_embeddings": 2048,
        "multi_query": True,
        "parallel_attn": True,
        "tie_word_embeddings": True,
    }
    aliases: ClassVar = {
        "n_embed": "hidden_size",
        "n_head": "num_attention_heads",
        "n_head_kv": "num_kv_heads",
        "n_layer": "num_hidden_layers",
    }
    epsilon = "layer_norm_epsilon"
    activation = "activation"
    embedding = "transformer.word_embeddings"
    layers = "transformer.h"
    final_norm = "transformer.ln_f"

    @property
    def kv_heads(self) -> int:
        """The new decoder says how many; the old one shares one pair among all heads, or none."""
        if not self.config.flag("new_decoder_architecture"):
            return 1 if self.config.flag("multi_query") else self.heads
        kv_heads = self.config.integer("num_kv_heads") if "num_kv_heads" in self.config else self.heads
        if self.heads % kv_heads:
            raise ArchitectureError(
                f"config.json: num_attention_heads {self.heads} is not a multiple of num_kv_heads {kv_heads}"
            )
        return kv_heads

    @property
    def feed_forward_length(self) -> int:
        if "ffn_hidden_size" in self.config:
            return self.config.integer("ffn_hidden_size")
        return 4 * self.embedding_length

    @property
    def norms_apart(self) -> bool:
        """Attention and feed-forward each have a norm of their own."""
        if not self.config.flag("new_decoder_architecture"):
            return False
        return bool(self.config.one_of("num_ln_in_parallel_attn", None, 1, 2) != 1)

    def key_values(self) -> list[KeyValue]:
        for name in ("alibi", "bias"):
            self.config.one_of(name, False, None)
        self.config.one_of("parallel_attn", True)
        return [*super().key_values(), string(f"{self.arch}.tensor_data_layout", "jploski")]

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, inner = self.embedding_length, self.feed_forward_length
        if self.norms_apart:
            yield from self.norm(f"{target}.attn_norm", f"{source}.ln_mlp")
            yield from self.norm(f"{target}.attn_norm_2", f"{source}.ln_attn")
        else:
            yield from self.norm(f"{target}.attn_norm", f"{source}.input_layernorm")
        yield self.fused_attention(f"{target}.attn_qkv.weight", f"{source}.self_attention.query_key_value.weight")
        yield from self.linear(f"{target}.attn_output", f"{source}.self_attention.dense", (width, width))
        yield from self.linear(f"{target}.ffn_up", f"{source}.mlp.dense_h_to_4h", (inner, width))
        yield from self.linear(f"{target}.ffn_down", f"{source}.mlp.dense_4h_to_h", (width, inner))

    def fused_attention(self, target: str, source: str) -> TargetTensor:
        """All queries, then all keys, then all values, out of groups ``[q, …, q, k, v]``, one for each key head."""
        head_dim, kv_heads = self.head_dim, self.kv_heads
        queries = self.heads // kv_heads
        shape = ((queries + 2) * kv_heads * head_dim, self.embedding_length)
        self.source(source, shape)
        group = (kv_heads, (queries + 2) * head_dim)
        parts = ((0, queries), (queries, 1), (queries + 1, 1))
        return TargetTensor(
            target,
            shape,
            tuple(Piece(source, RowMap(first * head_dim, (group, (count * head_dim, 1)))) for first, count in parts),
        )
