"""Hunyuan: Llama with norms on each head behind rope, whose base may be stretched by a fixed alpha."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from converter.architectures.parts.decoder import Llama
from converter.architectures.parts.experts import expert_counts, expert_key_values, expert_stacks, shared_expert
from converter.architectures.parts.rope import DYNAMIC, Rope, rope_section, scaling_of
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue, uint32


class HunyuanDense(Llama):
    classes = ("HunYuanDenseV1ForCausalLM",)
    arch = "hunyuan-dense"
    defaults: ClassVar = {**Llama.defaults, "rms_norm_eps": 1e-5}
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

    def head_norms(self, target: str, source: str) -> Iterator[TargetTensor]:
        for name, norm in (("q", "query_layernorm"), ("k", "key_layernorm")):
            yield self.tensor(f"{target}.attn_{name}_norm.weight", f"{source}.{norm}.weight", (self.head_dim,))


class HunyuanMoe(HunyuanDense):
    """Hunyuan with experts in every layer and one feed-forward that every token uses."""

    classes = ("HunYuanMoEV1ForCausalLM",)
    arch = "hunyuan-moe"
    defaults: ClassVar = {**HunyuanDense.defaults, "num_experts": 1, "moe_topk": 1}

    @property
    def expert_counts(self) -> tuple[int, int]:
        """Counts that may be lists of one number for each layer, which llama.cpp takes only where all are equal."""
        layers, names = self.config.integer("num_hidden_layers"), ("num_experts", "moe_topk")
        given = {name: self.config.integer_of_layers(name, layers) for name in names}
        return expert_counts(self.config.with_fields(**given), *names)

    def key_values(self) -> list[KeyValue]:
        shared, layers = "num_shared_expert", self.config.integer("num_hidden_layers")
        if shared in self.config and self.config.integer_of_layers(shared, layers, minimum=0) != 1:
            raise self.config.refusal(shared, "1 expected")
        length = self.feed_forward_length
        return [
            *super().key_values(),
            *expert_key_values(self.arch, self.expert_counts),
            uint32(f"{self.arch}.expert_feed_forward_length", length),
            uint32(f"{self.arch}.expert_shared_feed_forward_length", length),
        ]

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        experts, inner, width = self.expert_counts[0], self.feed_forward_length, self.embedding_length
        yield self.tensor(f"{target}.ffn_gate_inp.weight", f"{source}.gate.wg.weight", (experts, width))
        yield from expert_stacks(self, target, f"{source}.experts", (experts, inner, width))
        yield from shared_expert(self, target, f"{source}.shared_mlp", (inner, width))
