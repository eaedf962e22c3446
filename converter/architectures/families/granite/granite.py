"""Granite: Llama with four multipliers; dense, with experts, with experts and a shared one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.decoder import Llama
from converter.architectures.parts.experts import expert_counts, expert_key_values, expert_stacks, fused_halves
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue, float32, uint32

#: transformers' name of each multiplier and llama.cpp's key.
MULTIPLIERS = {
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "attention_multiplier": "attention.scale",
    "logits_scaling": "logit_scale",
}


class Granite(Llama):
    classes = ("GraniteForCausalLM",)
    arch = "granite"
    defaults: ClassVar = {**Llama.defaults, **dict.fromkeys(MULTIPLIERS, 1.0)}

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

    @property
    def expert_counts(self) -> tuple[int, int]:
        return expert_counts(self.config, "num_local_experts", "num_experts_per_tok")

    @property
    def has_experts(self) -> bool:
        return True

    def key_values(self) -> list[KeyValue]:
        experts = expert_key_values(self.arch, self.expert_counts) if self.has_experts else []
        return [*super().key_values(), *experts]

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        mixture = f"{source.removesuffix('mlp')}block_sparse_moe"
        experts, width = self.expert_counts[0], self.embedding_length
        shape = (experts, self.config.integer("intermediate_size"), width)
        if f"{mixture}.router.weight" in self.sources:
            router, stacks = "router.weight", (f"{mixture}.experts", ("gate_up_proj", "down_proj"))
        else:
            router, stacks = "router.layer.weight", (mixture, ("input_linear.weight", "output_linear.weight"))
        yield self.tensor(f"{target}.ffn_gate_inp.weight", f"{mixture}.{router}", (experts, width))
        yield from expert_stacks(self, target, stacks[0], shape, fused=stacks[1])


class GraniteMoeShared(GraniteMoe):
    """Granite with experts and, where shared_intermediate_size is not zero, one that every token uses."""

    classes = ("GraniteMoeSharedForCausalLM",)
    defaults: ClassVar = {**GraniteMoe.defaults, "shared_intermediate_size": 0}

    @property
    def shared(self) -> int:
        return self.config.integer("shared_intermediate_size", 0)

    def key_values(self) -> list[KeyValue]:
        if not self.shared or not self.has_experts:
            return super().key_values()
        return [*super().key_values(), uint32(f"{self.arch}.expert_shared_feed_forward_length", self.shared)]

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        yield from super().feed_forward(target, source)
        if self.shared:
            mlp, shape = f"{source.removesuffix('mlp')}shared_mlp", (self.shared, self.embedding_length)
            gate, up, down = (f"{target}.ffn_{name}_shexp.weight" for name in ("gate", "up", "down"))
            yield from fused_halves(self, gate, up, f"{mlp}.input_linear.weight", shape)
            yield self.tensor(down, f"{mlp}.output_linear.weight", shape[::-1])
