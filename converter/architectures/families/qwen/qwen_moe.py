"""Qwen2-MoE and Qwen3-MoE: the dense models' attention with a mixture of experts in every layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.families.qwen.qwen2 import Qwen2
from converter.architectures.families.qwen.qwen3 import Qwen3
from converter.architectures.layer import Layer, Names
from converter.architectures.parts.experts import LENGTH, Mixture, gated_names
from converter.architectures.target import Piece, TargetTensor
from converter.gguf.key_values import KeyValue


class Qwen2Moe(Qwen2):
    """Qwen1.5-MoE and Qwen2-57B-A14B: one shared expert beside the chosen ones, its output weighed by a gate."""

    classes = ("Qwen2MoeForCausalLM",)
    arch = "qwen2moe"
    in_transformers: ClassVar = {"qwen2_moe": LINEAR_BY_NAME}
    defaults: ClassVar = {
        **Qwen2.defaults,
        "num_key_value_heads": 16,
        "num_experts": 60,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
        "norm_topk_prob": False,
        "qkv_bias": True,
        "decoder_sparse_step": 1,
    }
    needs_output = True
    names: ClassVar[Names] = {**Qwen2.names, **gated_names("mlp.shared_expert", "_shexp")}
    mixture_keys = (*LENGTH, "expert_shared_feed_forward_length")
    #: Whether llama.cpp divides the chosen experts' weights by their sum.
    normalizes: ClassVar[bool] = False

    @property
    def query_bias(self) -> bool:
        return self.config.flag("qkv_bias")

    @property
    def sliding_window(self) -> int | None:
        return self.config.integer("sliding_window") if self.config.flag("use_sliding_window") else None

    @property
    def mixture(self) -> Mixture:
        fields = ("num_experts", "num_experts_per_tok", "moe_intermediate_size")
        return Mixture.of(self.config, *fields, shared_length=self.config.integer("shared_expert_intermediate_size"))

    def check_experts(self) -> None:
        """Refuse what llama.cpp does not run of how experts are weighed and which layers have them."""
        config = self.config
        config.one_of("norm_topk_prob", self.normalizes)
        config.one_of("decoder_sparse_step", 1)
        if "mlp_only_layers" in config and config.integers("mlp_only_layers"):
            raise config.refusal("mlp_only_layers", "but llama.cpp runs this family only with experts in every layer")

    def key_values(self) -> list[KeyValue]:
        self.check_experts()
        return [*super().key_values(), *self.mixture_key_values()]

    def shared_experts(self, layer: Layer, mixture: Mixture) -> Iterator[TargetTensor]:
        width, gate = self.embedding_length, f"{layer.source}.mlp.shared_expert_gate.weight"
        self.source(gate, (1, width))
        yield TargetTensor(f"{layer.target}.ffn_gate_inp_shexp.weight", (width,), (Piece(gate),))
        yield from super().shared_experts(layer, mixture)


class Qwen3Moe(Qwen2Moe, Qwen3):
    """Qwen3-30B-A3B and its like: Qwen3's attention, no shared expert."""

    classes = ("Qwen3MoeForCausalLM",)
    arch = "qwen3moe"
    in_transformers: ClassVar = {"qwen3_moe": LINEAR_BY_NAME}
    defaults: ClassVar = {
        **{name: value for name, value in Qwen2.defaults.items() if name != "max_window_layers"},
        "num_key_value_heads": 4,
        "num_local_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "norm_topk_prob": False,
        "decoder_sparse_step": 1,
        "attention_bias": False,
    }
    aliases: ClassVar[Mapping[str, str]] = {"num_experts": "num_local_experts"}
    needs_output = False
    normalizes = True

    @property
    def query_bias(self) -> bool:
        return False

    @property
    def mixture(self) -> Mixture:
        return Mixture.of(self.config, "num_local_experts", "num_experts_per_tok", "moe_intermediate_size")

    def shared_experts(self, layer: Layer, mixture: Mixture) -> Iterator[TargetTensor]:
        yield from ()
