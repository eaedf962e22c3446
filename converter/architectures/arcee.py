"""Arcee's AFM: Llama with a squared ReLU instead of the gate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.llama import Llama
from converter.architectures.target import TargetTensor
from converter.metadata import KeyValue


class Arcee(Llama):
    classes = ("ArceeForCausalLM",)
    arch = "arcee"
    defaults: ClassVar = {"hidden_act": "relu2", "max_position_embeddings": 4096, "rms_norm_eps": 1e-5}
    activations = ("relu2",)

    def key_values(self) -> list[KeyValue]:
        for name in ("attention_bias", "mlp_bias"):
            self.config.one_of(name, False, None)
        return super().key_values()

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, inner = self.embedding_length, self.config.integer("intermediate_size")
        yield from self.linear(f"{target}.ffn_up", f"{source}.up_proj", (inner, width))
        yield from self.linear(f"{target}.ffn_down", f"{source}.down_proj", (width, inner))
