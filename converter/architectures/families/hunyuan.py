"""Hunyuan: Llama with norms on each head behind rope, whose base may be stretched by a fixed alpha."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.experts import LENGTH, Mixture, expert_counts, gated_names
from converter.architectures.parts.rope import DYNAMIC, Rope, rope_section, scaling_of
from converter.gguf.key_values import KeyValue


class HunyuanDense(Decoder):
    classes = ("HunYuanDenseV1ForCausalLM",)
    arch = "hunyuan-dense"
    in_transformers: ClassVar = {"hunyuan_v1_dense": LINEAR_BY_NAME}
    defaults: ClassVar = {**Decoder.defaults, "rms_norm_eps": 1e-5}
    names: ClassVar = {
        **Decoder.names,
        "attn_q_norm": "self_attn.query_layernorm",
        "attn_k_norm": "self_attn.key_layernorm",
    }
    rotates_neighbours = False
    takes_frequency_factors = False
    norms_heads = True

    @property
    def rope(self) -> Rope:
        """A scaling called dynamic whose ``alpha`` is fixed only raises the base: theta * alpha^(d / (d - 2))
        (transformers, ``compute_ntk_alpha_rope_parameters``)."""
        parameters = rope_section(self.config)
        alpha = parameters.number("alpha") if "alpha" in parameters else 0.0
        if not alpha or scaling_of(parameters) != DYNAMIC:
            return Rope.of(self.config)
        rope = Rope.of(self.config, parameters.with_fields(rope_type="default"))
        length = self.head_dim
        if length < 4:
            raise parameters.refusal("alpha", f"which heads of {length} elements cannot have; 4 expected at least")
        return replace(rope, theta=rope.theta * parameters.positive("alpha") ** (length / (length - 2)))

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("attention_bias", False, None)
        return super().key_values()


class HunyuanMoe(HunyuanDense):
    """Hunyuan with experts in every layer and one feed-forward that every token uses."""

    classes = ("HunYuanMoEV1ForCausalLM",)
    arch = "hunyuan-moe"
    defaults: ClassVar = {**HunyuanDense.defaults, "num_experts": 1, "moe_topk": 1}

    names: ClassVar = {
        **HunyuanDense.names,
        "ffn_gate_inp": "mlp.gate.wg",
        **gated_names("mlp.shared_mlp", "_shexp"),
    }
    mixture_keys = (*LENGTH, "expert_shared_feed_forward_length")

    @property
    def mixture(self) -> Mixture:
        """Counts may be lists of one number for each layer, which llama.cpp takes only where all are equal."""
        length, names = self.feed_forward_length, ("num_experts", "moe_topk")
        given = {name: self.config.integer_of_layers(name, len(self.kinds)) for name in names}
        counts = expert_counts(self.config.with_fields(**given), *names)
        return Mixture(*counts, length, shared_length=length)

    def key_values(self) -> list[KeyValue]:
        shared = "num_shared_expert"
        if shared in self.config and self.config.integer_of_layers(shared, len(self.kinds), minimum=0) != 1:
            raise self.config.refusal(shared, "1 expected")
        return [*super().key_values(), *self.mixture_key_values()]
