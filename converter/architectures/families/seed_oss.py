"""Seed-OSS: Llama with biases on queries, keys and values, and heads of any length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.decoder import Llama
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue


class SeedOss(Llama):
    classes = ("SeedOssForCausalLM",)
    arch = "seed_oss"
    defaults: ClassVar = {
        "max_position_embeddings": 524288,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "num_key_value_heads": 8,
        "head_dim": 128,
        "attention_bias": True,
    }
    rotates_neighbours = False
    takes_frequency_factors = False

    @property
    def output_bias(self) -> bool:
        return False

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("attention_out_bias", False, None)
        self.config.one_of("mlp_bias", False, None)
        return super().key_values()

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width = (self.embedding_length,)
        yield self.tensor(f"{target}.attn_norm.weight", f"{source}.input_layernorm.weight", width)
        yield from self.attention(target, f"{source}.self_attn")
        # The feed-forward's norm; llama.cpp calls it after what stands before it.
        yield self.tensor(f"{target}.post_attention_norm.weight", f"{source}.post_attention_layernorm.weight", width)
        yield from self.feed_forward(target, f"{source}.mlp")
