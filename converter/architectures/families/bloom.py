"""BLOOM: ALiBi instead of positions, a norm on the embedding, queries, keys and values interleaved head by head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.families.gpt.gpt_neox import interleaved_thirds
from converter.architectures.parts.decoder import Gate
from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.architectures.target import RowMap, TargetTensor
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
    names: ClassVar = {
        "token_embd": "transformer.word_embeddings",
        "token_embd_norm": "transformer.word_embeddings_layernorm",
        "blk": "transformer.h",
        "output_norm": "transformer.ln_f",
        "output": "lm_head",
        "attn_norm": "input_layernorm",
        "attn_qkv": "self_attention.query_key_value",
        "attn_output": "self_attention.dense",
        "ffn_norm": "post_attention_layernorm",
        "ffn_up": "mlp.dense_h_to_4h",
        "ffn_down": "mlp.dense_4h_to_h",
    }
    body = "transformer."
    gate = Gate.NONE
    query_bias = True
    output_bias = True
    feed_forward_bias = True
    epsilon = "layer_norm_epsilon"
    # transformers, too, computes nothing but GELU's tanh approximation.
    activations = ()
    rotary_factor = None

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

    def before_layers(self) -> Iterator[TargetTensor]:
        yield from self.norm("token_embd_norm", self.source_name("token_embd_norm"))

    @property
    def fused_rows(self) -> RowMap:
        return interleaved_thirds(self.heads, self.head_dim)
