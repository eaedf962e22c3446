"""Ministral 3: Mistral whose queries grow with the logarithm of their position."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.families.mistral.mistral import Mistral
from converter.gguf.key_values import KeyValue, float32, uint32


class Ministral3(Mistral):
    classes = ("Ministral3ForCausalLM",)
    arch = "mistral3"
    in_transformers: ClassVar = {"ministral3": LINEAR_BY_NAME}
    defaults: ClassVar = {
        **Mistral.defaults,
        "max_position_embeddings": 262144,
        "rms_norm_eps": 1e-5,
        "head_dim": 128,
    }

    @property
    def sliding_window(self) -> int | None:
        return self.config.optional_integer("sliding_window")

    def key_values(self) -> list[KeyValue]:
        """transformers multiplies a query by 1 + beta ln(1 + floor(position / original length)); llama.cpp too, with
        the length that it takes for yarn's."""
        rope = self.rope
        length = uint32(f"{self.arch}.rope.scaling.original_context_length", rope.original_context_length)
        pairs = super().key_values()
        return [
            *pairs,
            *([] if any(pair.key == length.key for pair in pairs) else [length]),
            float32(f"{self.arch}.attention.temperature_scale", rope.number("llama_4_scaling_beta")),
        ]
