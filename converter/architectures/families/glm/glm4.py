"""GLM-4 (0414): norms before and behind each sublayer, a fused gate and up projection, rope on part of a head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.decoder import Llama
from converter.architectures.parts.rope import rotated_elements
from converter.architectures.target import TargetTensor


class Glm4(Llama):
    classes = ("Glm4ForCausalLM",)
    arch = "glm4"
    defaults: ClassVar = {
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1.5625e-07,
        "hidden_act": "silu",
        "num_key_value_heads": 2,
        "head_dim": 128,
        "attention_bias": True,
    }
    rotates_neighbours = False
    takes_frequency_factors = False

    @property
    def rotary_dim(self) -> int:
        return rotated_elements(self.config, self.head_dim, 0.5)

    @property
    def output_bias(self) -> bool:
        return False

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width = (self.embedding_length,)
        yield self.tensor(f"{target}.attn_norm.weight", f"{source}.input_layernorm.weight", width)
        yield from self.attention(target, f"{source}.self_attn")
        yield self.tensor(f"{target}.post_attention_norm.weight", f"{source}.post_self_attn_layernorm.weight", width)
        yield self.tensor(f"{target}.ffn_norm.weight", f"{source}.post_attention_layernorm.weight", width)
        yield from self.feed_forward(target, f"{source}.mlp")
        yield self.tensor(f"{target}.post_ffw_norm.weight", f"{source}.post_mlp_layernorm.weight", width)

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        # llama.cpp halves the projection itself, the gate's rows first as in the source.
        width, hidden = self.embedding_length, self.config.integer("intermediate_size")
        yield self.tensor(f"{target}.ffn_up.weight", f"{source}.gate_up_proj.weight", (2 * hidden, width))
        yield self.tensor(f"{target}.ffn_down.weight", f"{source}.down_proj.weight", (width, hidden))


class Glm(Glm4):
    """GLM-4 of 2024, saved for transformers' own class: norms only before the sublayers."""

    classes = ("GlmForCausalLM",)
    arch = "chatglm"
    takes_head_dim = False

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        yield from Llama.block(self, target, source)
