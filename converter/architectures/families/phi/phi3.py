"""Phi-3, 3.5 and 4: Llama with fused projections, LongRoPE, and rope on a part of each head in the smallest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.parts.decoder import Decoder, Gate
from converter.architectures.parts.longrope import LongRope, without_scaling
from converter.architectures.parts.rope import Rope, rotated_elements
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue, uint32


class Phi3(Decoder):
    classes = ("Phi3ForCausalLM",)
    arch = "phi3"
    in_transformers: ClassVar = {"phi3": LINEAR_BY_NAME}
    defaults: ClassVar = {
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
    }
    names: ClassVar = {**Decoder.names, "attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}
    gate = Gate.FUSED
    rotates_neighbours = False
    takes_frequency_factors = False
    takes_head_dim = False

    @property
    def rotary_dim(self) -> int:
        return rotated_elements(self.config, self.head_dim, 1.0)

    @property
    def rope(self) -> Rope:
        return without_scaling(self.config)

    @property
    def long_rope(self) -> LongRope | None:
        return LongRope.of(self.config, self.rotary_dim)

    @property
    def sliding_window(self) -> int | None:
        return self.config.optional_integer("sliding_window")

    def exact_lengths(self) -> Iterator[tuple[int, str]]:
        yield from super().exact_lengths()
        if self.long_rope is not None:
            yield from self.long_rope.exact_lengths(self.config)

    def key_values(self) -> list[KeyValue]:
        # llama.cpp reads the window and then attends to all tokens; 0 says that there is none.
        window = uint32(f"{self.arch}.attention.sliding_window", self.sliding_window or 0)
        long_rope = self.long_rope
        return [*super().key_values(), window, *(long_rope.key_values(self.arch) if long_rope else [])]

    def frequency_factors(self) -> Iterator[TargetTensor]:
        long_rope = self.long_rope
        if long_rope is not None:
            yield from long_rope.tensors()
