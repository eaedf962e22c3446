"""Seed-OSS: Llama with biases on queries, keys and values, and heads of any length."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.parts.decoder import Decoder
from converter.gguf.key_values import KeyValue


class SeedOss(Decoder):
    classes = ("SeedOssForCausalLM",)
    arch = "seed_oss"
    in_transformers: ClassVar = {"seed_oss": LINEAR_BY_NAME}
    defaults: ClassVar = {
        "max_position_embeddings": 524288,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "num_key_value_heads": 8,
        "head_dim": 128,
        "attention_bias": True,
    }
    # The feed-forward's norm; llama.cpp calls it after what stands before it.
    names: ClassVar = {**Decoder.names, "post_attention_norm": "post_attention_layernorm"}
    layout = ("attn_norm", "attention", "post_attention_norm", "feed_forward")
    rotates_neighbours = False
    takes_frequency_factors = False

    @property
    def output_bias(self) -> bool:
        return False

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("attention_out_bias", False, None)
        self.config.one_of("mlp_bias", False, None)
        return super().key_values()
