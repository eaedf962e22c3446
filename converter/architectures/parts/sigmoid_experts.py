"""Decoders with experts as DeepSeek V3 has them: sigmoid gates, shared experts, dense first layers."""

from __future__ import annotations

from typing import Any, ClassVar

from converter.architectures.layer import Names
from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.experts import CHOICE, LENGTH, Mixture, expert_counts, sigmoid_choice
from converter.gguf.key_values import KeyValue


class SigmoidExperts(Decoder):
    """Base of such families.

    Attributes:
        count_field, shared_field: how many experts there are to choose from, and how many every token uses.
    """

    names: ClassVar[Names] = {
        **Decoder.names,
        "exp_probs_b": ("mlp.e_score_correction_bias", "mlp.gate.e_score_correction_bias"),
    }
    rotates_neighbours = False
    takes_frequency_factors = False
    predicts_ahead = True
    count_field: ClassVar[str] = "n_routed_experts"
    shared_field: ClassVar[str] = "n_shared_experts"
    mixture_keys: ClassVar[tuple[str, ...]] = (*LENGTH, "expert_shared_count", "leading_dense_block_count", *CHOICE)

    @property
    def dense_layers(self) -> int:
        return self.config.integer("first_k_dense_replace", 0)

    @property
    def mixture(self) -> Mixture:
        counts = expert_counts(self.config, self.count_field, "num_experts_per_tok")
        length, shared = self.config.integer("moe_intermediate_size"), self.config.integer(self.shared_field)
        return Mixture(
            *counts,
            length,
            dense=self.dense_layers,
            shared=shared,
            shared_length=shared * length,
            **self.choice(counts[0]),
        )

    def choice(self, experts: int) -> dict[str, Any]:
        """How experts are weighed and chosen, as arguments of :class:`Mixture`."""
        return sigmoid_choice(self.config, experts)

    @property
    def output_bias(self) -> bool:
        return False

    def key_values(self) -> list[KeyValue]:
        return [*super().key_values(), *self.mixture_key_values()]
