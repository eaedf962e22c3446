"""BLOOM: ALiBi instead of positions, a norm on the embedding, queries, keys and values interleaved head by head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.families.gpt.gpt_neox import interleaved_thirds
from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue


class Bloom(LayerNormDecoder):
    classes = ("BloomForCausalLM",)
    arch = "bloom"
    defaults: ClassVar = {"layer_norm_epsilon": 1e-5, "tie_word_embeddings": True}
    aliases: ClassVar = {
        "n_embed": "hidden_size",
        "n_head": "num_attention_heads",
        "n_layer": "num_hidden_layers",
    }
    epsilon = "layer_norm_epsilon"
    # transformers, too, computes nothing but GELU's tanh approximation.
    activations = ()
    rotary_factor = None
    body = "transformer."
    embedding = "word_embeddings"
    layers = "h"
    final_norm = "ln_f"

    @property
    def feed_forward_length(self) -> int:
        return 4 * self.embedding_length

    @property
    def context_length(self) -> int:
        """ALiBi knows no longest text; without ``seq_length``, the 2048 tokens that BLOOM was trained with."""
        return self.config.integer("seq_length") if "seq_length" in self.config else 2048

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("apply_residual_connection_post_layernorm", False, None)
        return super().key_values()

    def before_blocks(self) -> Iterator[TargetTensor]:
        yield from self.norm("token_embd_norm", f"{self.prefix}word_embeddings_layernorm")

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, inner = self.embedding_length, self.feed_forward_length
        attention, rows = f"{source}.self_attention", interleaved_thirds(self.heads, self.head_dim)
        yield from self.norm(f"{target}.attn_norm", f"{source}.input_layernorm")
        yield from self.linear(
            f"{target}.attn_qkv", f"{attention}.query_key_value", (3 * width, width), bias=True, rows=rows
        )
        yield from self.linear(f"{target}.attn_output", f"{attention}.dense", (width, width), bias=True)
        yield from self.norm(f"{target}.ffn_norm", f"{source}.post_attention_layernorm")
        yield from self.linear(f"{target}.ffn_up", f"{source}.mlp.dense_h_to_4h", (inner, width), bias=True)
        yield from self.linear(f"{target}.ffn_down", f"{source}.mlp.dense_4h_to_h", (width, inner), bias=True)
