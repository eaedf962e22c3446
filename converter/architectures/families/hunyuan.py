"""Hunyuan: Llama with norms on each head behind rope, whose base may be stretched by a fixed alpha."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.experts import LENGTH, Mixture, expert_counts, gated_names
from converter.architectures.parts.rope import Rope
from converter.errors import ArchitectureError
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
        given = {}
        for name in ("num_experts", "moe_topk"):
            value = self.config.get(name)
            if isinstance(value, list) and len(set(map(str, value))) != 1:
                raise ArchitectureError(f"config.json: {name!r} is {value!r}, the same number for each layer expected")
            given[name] = value[0] if isinstance(value, list) else value
        length = self.feed_forward_length
        counts = expert_counts(Hyperparameters(given, {}), "num_experts", "moe_topk")
        return Mixture(*counts, length, shared_length=length)

    def key_values(self) -> list[KeyValue]:
        shared = self.config.get("num_shared_expert")
        if any(count != 1 for count in (shared if isinstance(shared, list) else [1 if shared is None else shared])):
            raise ArchitectureError(f"config.json: 'num_shared_expert' is {shared!r}, 1 expected")
        return [*super().key_values(), *self.mixture_key_values()]
