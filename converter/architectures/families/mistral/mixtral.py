"""Mixtral: Mistral with a mixture of experts, which llama.cpp runs as ``llama``."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.families.mistral.mistral import Mistral
from converter.architectures.parts.experts import Mixture, expert_names
from converter.gguf.key_values import KeyValue


class Mixtral(Mistral):
    classes = ("MixtralForCausalLM",)
    in_transformers: ClassVar = {"mixtral": LINEAR_BY_NAME}
    defaults: ClassVar = {
        **Mistral.defaults,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e6,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    }
    #: Mixtral's own files call the mixture block_sparse_moe, transformers 5 calls it mlp as everywhere.
    names: ClassVar = {
        **Mistral.names,
        "ffn_gate_inp": ("block_sparse_moe.gate", "mlp.gate"),
        **expert_names("block_sparse_moe.experts", "mlp.experts", apart=("w1", "w3", "w2")),
    }

    @property
    def sliding_window(self) -> int | None:
        return self.config.optional_integer("sliding_window")

    def key_values(self) -> list[KeyValue]:
        return [*super().key_values(), *self.mixture_key_values()]

    @property
    def mixture(self) -> Mixture:
        return Mixture.of(self.config, "num_local_experts", "num_experts_per_tok", "intermediate_size")
