"""Granite: Llama with four multipliers; dense, with experts, with experts and a shared one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.layer import Names
from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.experts import COUNTS, Mixture
from converter.gguf.key_values import KeyValue, float32

#: transformers' name of each multiplier and llama.cpp's key.
MULTIPLIERS = {
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "attention_multiplier": "attention.scale",
    "logits_scaling": "logit_scale",
}


class Granite(Decoder):
    classes = ("GraniteForCausalLM",)
    arch = "granite"
    in_transformers: ClassVar = {"granite": LINEAR_BY_NAME}
    defaults: ClassVar = {**Decoder.defaults, **dict.fromkeys(MULTIPLIERS, 1.0)}

    def key_values(self) -> list[KeyValue]:
        return [*super().key_values(), *self.multipliers()]

    def multipliers(self) -> Iterator[KeyValue]:
        """llama.cpp takes a zero for "none given"."""
        for name, key in MULTIPLIERS.items():
            yield float32(f"{self.arch}.{key}", self.config.positive(name))


class GraniteMoe(Granite):
    """Granite with experts, saved fused in either of two layouts."""

    classes = ("GraniteMoeForCausalLM",)
    arch = "granitemoe"
    defaults: ClassVar = {**Granite.defaults, "num_local_experts": 8, "num_experts_per_tok": 2}
    #: A router and projections as transformers 5 and older releases have them.
    names: ClassVar[Names] = {
        **Granite.names,
        "ffn_gate_inp": ("block_sparse_moe.router", "block_sparse_moe.router.layer"),
        "ffn_gate_exps": ("block_sparse_moe.experts.gate_up_proj", "block_sparse_moe.input_linear"),
        "ffn_up_exps": ("block_sparse_moe.experts.gate_up_proj", "block_sparse_moe.input_linear"),
        "ffn_down_exps": ("block_sparse_moe.experts.down_proj", "block_sparse_moe.output_linear"),
    }

    @property
    def mixture(self) -> Mixture | None:
        return Mixture.of(self.config, "num_local_experts", "num_experts_per_tok", "intermediate_size")

    def key_values(self) -> list[KeyValue]:
        return [*super().key_values(), *self.mixture_key_values()]


class GraniteMoeShared(GraniteMoe):
    """Granite with experts and, where shared_intermediate_size is not zero, one that every token uses."""

    classes = ("GraniteMoeSharedForCausalLM",)
    defaults: ClassVar = {**GraniteMoe.defaults, "shared_intermediate_size": 0}
    names: ClassVar[Names] = {
        **GraniteMoe.names,
        "ffn_gate_shexp": "shared_mlp.input_linear",
        "ffn_up_shexp": "shared_mlp.input_linear",
        "ffn_down_shexp": "shared_mlp.output_linear",
    }
    mixture_keys = (*COUNTS, "expert_shared_feed_forward_length")

    @property
    def shared(self) -> int:
        return self.config.integer("shared_intermediate_size", 0)

    @property
    def mixture(self) -> Mixture | None:
        mixture = super().mixture
        return mixture and replace(mixture, shared_length=self.shared)
