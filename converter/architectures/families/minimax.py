"""MiniMax M2: norms on all queries and all keys at once, rope on part of a head, sigmoid gates, no shared experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.layer import Layer
from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.experts import LENGTH, SIGMOID, Mixture, expert_names
from converter.architectures.parts.rope import rotated_elements
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue


class MiniMaxM2(Decoder):
    classes = ("MiniMaxM2ForCausalLM",)
    arch = "minimax-m2"
    in_transformers: ClassVar = {"minimax_m2": LINEAR_BY_NAME}
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
    names: ClassVar = {
        **Decoder.names,
        "ffn_gate_inp": ("block_sparse_moe.gate", "mlp.gate"),
        "exp_probs_b": ("block_sparse_moe.e_score_correction_bias", "mlp.e_score_correction_bias"),
        **expert_names("block_sparse_moe.experts", "mlp.experts", apart=("w1", "w3", "w2")),
    }
    mixture_keys = (*LENGTH, "expert_gating_func")
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
    def mixture(self) -> Mixture:
        fields = ("num_local_experts", "num_experts_per_tok", "intermediate_size")
        return Mixture.of(self.config, *fields, gating=SIGMOID)

    def key_values(self) -> list[KeyValue]:
        return [*super().key_values(), *self.mixture_key_values()]

    def head_norms(self, layer: Layer) -> Iterator[TargetTensor]:
        for part, heads in (("attn_q_norm", self.heads), ("attn_k_norm", self.kv_heads)):
            yield from self.layer_norm(layer, part, heads * self.head_dim)
