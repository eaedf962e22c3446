"""Llama with experts as DeepSeek V3 has them: sigmoid gates, shared experts, dense first layers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.decoder import Llama
from converter.architectures.parts.experts import (
    expert_counts,
    expert_key_values,
    expert_stacks,
    shared_expert,
    sigmoid_choice,
)
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue, uint32


class SigmoidExperts(Llama):
    """Base of such families.

    Attributes:
        count_field, shared_field: how many experts there are to choose from, and how many every token uses.
    """

    rotates_neighbours = False
    takes_frequency_factors = False
    count_field: ClassVar[str] = "n_routed_experts"
    shared_field: ClassVar[str] = "n_shared_experts"

    @property
    def expert_counts(self) -> tuple[int, int]:
        return expert_counts(self.config, self.count_field, "num_experts_per_tok")

    @property
    def dense_layers(self) -> int:
        return self.config.integer("first_k_dense_replace", 0)

    @property
    def shared_length(self) -> int:
        """Feed-forward length of all shared experts together."""
        return self.config.integer("moe_intermediate_size") * self.config.integer(self.shared_field)

    @property
    def output_bias(self) -> bool:
        return False

    def leaves_out(self, source: str) -> bool:
        """Layers beyond num_hidden_layers predict several tokens ahead; transformers does not run them either."""
        layer = re.match(r"model\.layers\.(\d+)\.", source)
        beyond = layer is not None and int(layer[1]) >= self.config.integer("num_hidden_layers")
        return beyond or super().leaves_out(source)

    def key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        return [
            *super().key_values(),
            *expert_key_values(arch, self.expert_counts),
            uint32(f"{arch}.expert_feed_forward_length", config.integer("moe_intermediate_size")),
            uint32(f"{arch}.expert_shared_count", config.integer(self.shared_field)),
            uint32(f"{arch}.leading_dense_block_count", self.dense_layers),
            *self.choice(),
        ]

    def choice(self) -> list[KeyValue]:
        """How experts are weighed and chosen."""
        return sigmoid_choice(self.config, self.arch, self.expert_counts[0])

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        if int(target.split(".")[1]) < self.dense_layers:
            yield from super().feed_forward(target, source)
            return
        experts, width, inner = (
            self.expert_counts[0],
            self.embedding_length,
            self.config.integer("moe_intermediate_size"),
        )
        gate, bias = self.router(source)
        yield self.tensor(f"{target}.ffn_gate_inp.weight", gate, (experts, width))
        yield self.tensor(f"{target}.exp_probs_b.bias", bias, (experts,))
        yield from expert_stacks(self, target, f"{source}.experts", (experts, inner, width))
        yield from shared_expert(self, target, f"{source}.shared_experts", (self.shared_length, width))

    def router(self, source: str) -> tuple[str, str]:
        """Sources of the experts' scores and of the bias that only their choice sees."""
        own = f"{source}.e_score_correction_bias"
        return f"{source}.gate.weight", own if own in self.sources else f"{source}.gate.e_score_correction_bias"
