"""Falcon, old and new decoder: attention and feed-forward side by side, fused queries, keys and values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.facts import InTransformers
from converter.architectures.layer import Layer
from converter.architectures.parts.decoder import Gate
from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.architectures.target import Piece, RowMap, TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, string


class Falcon(LayerNormDecoder):
    classes = ("FalconForCausalLM", "RWForCausalLM")
    arch = "falcon"
    in_transformers: ClassVar = {"falcon": InTransformers(own_products=r".")}
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
    names: ClassVar = {
        "token_embd": "transformer.word_embeddings",
        "blk": "transformer.h",
        "output_norm": "transformer.ln_f",
        "output": "lm_head",
        "attn_qkv": "self_attention.query_key_value",
        "attn_output": "self_attention.dense",
        "ffn_up": "mlp.dense_h_to_4h",
        "ffn_down": "mlp.dense_4h_to_h",
    }
    layout = ("norms", "attention", "feed_forward")
    gate = Gate.NONE
    epsilon = "layer_norm_epsilon"
    activation = "activation"

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

    def norms(self, layer: Layer) -> Iterator[TargetTensor]:
        if self.norms_apart:
            yield from self.norm(f"{layer.target}.attn_norm", f"{layer.source}.ln_mlp")
            yield from self.norm(f"{layer.target}.attn_norm_2", f"{layer.source}.ln_attn")
        else:
            yield from self.norm(f"{layer.target}.attn_norm", f"{layer.source}.input_layernorm")

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        """All queries, then all keys, then all values, out of groups ``[q, …, q, k, v]``, one for each key head."""
        width, head_dim, kv_heads = self.embedding_length, self.head_dim, self.kv_heads
        queries, source = self.heads // kv_heads, f"{self.source_name('attn_qkv', layer)}.weight"
        shape = ((queries + 2) * kv_heads * head_dim, width)
        self.source(source, shape)
        group = (kv_heads, (queries + 2) * head_dim)
        parts = ((0, queries), (queries, 1), (queries + 1, 1))
        pieces = (Piece(source, RowMap(first * head_dim, (group, (count * head_dim, 1)))) for first, count in parts)
        yield TargetTensor(f"{layer.target}.attn_qkv.weight", shape, tuple(pieces))
        yield from self.projection(layer, "attn_output", (width, width))
