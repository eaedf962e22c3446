"""Seed-OSS: Qwen2's biases with heads of any length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.llama import Llama
from converter.architectures.target import TargetTensor
from converter.metadata import KeyValue


class SeedOss(Llama):
    classes = ("SeedOssForCausalLM",)
    arch = "seed_oss"
    defaults: ClassVar = {
        "attention_bias": True,
        "head_dim": 128,
        "hidden_act": "silu",
        "max_position_embeddings": 524288,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-6,
    }
    rotates_neighbours = False
    takes_frequency_factors = False

    @property
    def output_bias(self) -> bool:
        return False

    def key_values(self) -> list[KeyValue]:
        for name in ("attention_out_bias", "mlp_bias"):
            self.config.one_of(name, False, None)
        return super().key_values()

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width = (self.embedding_length,)
        yield self.tensor(f"{target}.attn_norm.weight", f"{source}.input_layernorm.weight", width)
        yield from self.attention(target, f"{source}.self_attn")
        yield self.tensor(f"{target}.post_attention_norm.weight", f"{source}.post_attention_layernorm.weight", width)
        yield from self.feed_forward(target, f"{source}.mlp")
