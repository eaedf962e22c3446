"""Arcee (AFM): Llama with a feed-forward of two projections and a squared ReLU between them."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.parts.decoder import Decoder, Gate
from converter.gguf.key_values import KeyValue


class Arcee(Decoder):
    classes = ("ArceeForCausalLM",)
    arch = "arcee"
    in_transformers: ClassVar = {"arcee": LINEAR_BY_NAME}
    defaults: ClassVar = {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "hidden_act": "relu2"}
    activations = ("relu2",)
    gate = Gate.NONE

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("attention_bias", False, None)
        self.config.one_of("mlp_bias", False, None)
        return super().key_values()
