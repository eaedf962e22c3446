"""MiniMax M2: norms on all queries and all keys at once, rope on part of a head, sigmoid gates, no shared experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.decoder import Llama
from converter.architectures.parts.experts import SIGMOID, expert_counts, expert_key_values, expert_stacks
from converter.architectures.parts.rope import rotated_elements
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue, uint32


class MiniMaxM2(Llama):
    classes = ("MiniMaxM2ForCausalLM",)
    arch = "minimax-m2"
    defaults: ClassVar = {
        "max_position_embeddings": 196608,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "num_key_value_heads": 8,
        "head_dim": 128,
        "rope_theta": 5e6,
        "num_local_experts": 256,
        "num_experts_per_tok": 8,
    }
    rotates_neighbours = False
    takes_frequency_factors = False
    norms_heads = True
    needs_output = True

    @property
    def rotary_dim(self) -> int:
        """Published files say ``rotary_dim``, transformers 5 a share of the head."""
        given = self.config.optional_integer("rotary_dim") or self.head_dim
        return rotated_elements(self.config, self.head_dim, given / self.head_dim)

    @property
    def expert_counts(self) -> tuple[int, int]:
        return expert_counts(self.config, "num_local_experts", "num_experts_per_tok")

    def key_values(self) -> list[KeyValue]:
        return [
            *super().key_values(),
            *expert_key_values(self.arch, self.expert_counts),
            uint32(f"{self.arch}.expert_feed_forward_length", self.feed_forward_length),
            uint32(f"{self.arch}.expert_gating_func", SIGMOID),
        ]

    def head_norms(self, target: str, source: str) -> Iterator[TargetTensor]:
        for name, heads in (("q", self.heads), ("k", self.kv_heads)):
            norm = f"{source}.{name}_norm.weight"
            yield self.tensor(f"{target}.attn_{name}_norm.weight", norm, (heads * self.head_dim,))

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        own = f"{source.removesuffix('mlp')}block_sparse_moe"
        mixture = own if f"{own}.gate.weight" in self.sources else source
        experts, width = self.expert_counts[0], self.embedding_length
        yield self.tensor(f"{target}.ffn_gate_inp.weight", f"{mixture}.gate.weight", (experts, width))
        yield self.tensor(f"{target}.exp_probs_b.bias", f"{mixture}.e_score_correction_bias", (experts,))
        shape = (experts, self.feed_forward_length, width)
        yield from expert_stacks(self, target, f"{mixture}.experts", shape, names=("w1", "w3", "w2"))
