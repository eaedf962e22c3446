"""GLM-4 (0414): norms before and behind each sublayer, a fused gate and up projection, rope on part of a head."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.parts.decoder import Decoder, Gate
from converter.architectures.parts.rope import rotated_elements


class Glm4(Decoder):
    classes = ("Glm4ForCausalLM",)
    arch = "glm4"
    in_transformers: ClassVar = {"glm4": LINEAR_BY_NAME}
    defaults: ClassVar = {
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1.5625e-07,
        "hidden_act": "silu",
        "num_key_value_heads": 2,
        "head_dim": 128,
        "attention_bias": True,
    }
    names: ClassVar = {
        **Decoder.names,
        "post_attention_norm": "post_self_attn_layernorm",
        "ffn_up": "mlp.gate_up_proj",
        "post_ffw_norm": "post_mlp_layernorm",
    }
    layout: ClassVar[tuple[str, ...]] = (
        "attn_norm",
        "attention",
        "post_attention_norm",
        "ffn_norm",
        "feed_forward",
        "post_ffw_norm",
    )
    gate = Gate.FUSED
    rotates_neighbours = False
    takes_frequency_factors = False

    @property
    def rotary_dim(self) -> int:
        return rotated_elements(self.config, self.head_dim, 0.5)

    @property
    def output_bias(self) -> bool:
        return False


class Glm(Glm4):
    """GLM-4 of 2024, saved for transformers' own class: norms only before the sublayers."""

    classes = ("GlmForCausalLM",)
    arch = "chatglm"
    in_transformers: ClassVar = {"glm": LINEAR_BY_NAME}
    takes_head_dim = False

    layout = Decoder.layout
