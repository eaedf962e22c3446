"""Hunyuan (dense): Llama with norms on each head behind rope, whose base may be stretched by a fixed alpha."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.llama import Llama
from converter.architectures.rope import Rope
from converter.architectures.target import TargetTensor
from converter.metadata import KeyValue


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
        name = "rope_parameters" if "rope_parameters" in self.config else "rope_scaling"
        parameters = self.config.get(name)
        scaled = isinstance(parameters, dict) and parameters.get("alpha")
        if not scaled or "dynamic" not in (parameters.get("rope_type"), parameters.get("type")):
            return Rope.of(self.config)
        plain = {**parameters, "rope_type": "default"}
        rope = Rope.of(Hyperparameters({**self.config.config, name: plain}, self.defaults))
        theta = rope.theta * rope.number("alpha") ** (self.head_dim / (self.head_dim - 2))
        return Rope(theta, "default", rope.context_length, {**rope.parameters, "rope_theta": theta})

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("attention_bias", False, None)
        return super().key_values()

    def head_norms(self, target: str, source: str) -> Iterator[TargetTensor]:
        for name, norm in (("q", "query_layernorm"), ("k", "key_layernorm")):
            yield self.tensor(f"{target}.attn_{name}_norm.weight", f"{source}.{norm}.weight", (self.head_dim,))
