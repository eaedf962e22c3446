"""Qwen3: Qwen2 without biases, with RMS norms on each query and key head and heads of any length."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.qwen2 import Qwen2
from converter.metadata import KeyValue


class Qwen3(Qwen2):
    classes: ClassVar[tuple[str, ...]] = ("Qwen3ForCausalLM", "Qwen3Model")
    arch = "qwen3"
    defaults: ClassVar = {**Qwen2.defaults, "head_dim": 128}
    norms_heads = True
    takes_head_dim = True

    @property
    def query_bias(self) -> bool:
        return False

    def key_values(self) -> list[KeyValue]:
        # llama.cpp's qwen3 has no place for the output projection's bias.
        self.config.one_of("attention_bias", False, None)
        return super().key_values()
