"""Mixtral: Mistral with a mixture of experts, which llama.cpp runs as ``llama``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.families.mistral.mistral import Mistral
from converter.architectures.parts.experts import expert_counts, expert_key_values, expert_stacks
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue


class Mixtral(Mistral):
    classes = ("MixtralForCausalLM",)
    defaults: ClassVar = {
        **Mistral.defaults,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e6,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    }

    @property
    def sliding_window(self) -> int | None:
        return self.config.optional_integer("sliding_window")

    def key_values(self) -> list[KeyValue]:
        return [*super().key_values(), *expert_key_values(self.arch, self.expert_counts)]

    @property
    def expert_counts(self) -> tuple[int, int]:
        return expert_counts(self.config, "num_local_experts", "num_experts_per_tok")

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        # Mixtral's own files call the mixture block_sparse_moe, transformers 5 calls it mlp as everywhere.
        own = f"{source.removesuffix('mlp')}block_sparse_moe"
        mixture = own if f"{own}.gate.weight" in self.sources else source
        experts, width = self.expert_counts[0], self.embedding_length
        yield self.tensor(f"{target}.ffn_gate_inp.weight", f"{mixture}.gate.weight", (experts, width))
        shape = (experts, self.config.integer("intermediate_size"), width)
        yield from expert_stacks(self, target, f"{mixture}.experts", shape, names=("w1", "w3", "w2"))
