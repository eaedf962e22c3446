"""Mistral: Llama with other defaults and a sliding window."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.families.llama.llama import Llama


class Mistral(Llama):
    classes: ClassVar[tuple[str, ...]] = ("MistralForCausalLM", "MistralModel")
    in_transformers: ClassVar = {"mistral": LINEAR_BY_NAME}
    defaults: ClassVar = {
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "num_key_value_heads": 8,
    }

    @property
    def sliding_window(self) -> int | None:
        # An absent field means transformers' default of 4096; an explicit null means no window.
        field = "sliding_window"
        return None if self.config.says_none(field) else self.config.optional_integer(field) or 4096

    @property
    def query_bias(self) -> bool:
        return False

    @property
    def output_bias(self) -> bool:
        return False


class MistralSmall3(Mistral):
    """The text model of Mistral Small 3.1 and 3.2, which llama.cpp runs as Ministral 3's."""

    arch = "mistral3"
