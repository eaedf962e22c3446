"""Arcee (AFM): Llama with a feed-forward of two projections and a squared ReLU between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.decoder import Llama
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue


class Arcee(Llama):
    classes = ("ArceeForCausalLM",)
    arch = "arcee"
    defaults: ClassVar = {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "hidden_act": "relu2"}
    activations = ("relu2",)

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("attention_bias", False, None)
        self.config.one_of("mlp_bias", False, None)
        return super().key_values()

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, hidden = self.embedding_length, self.feed_forward_length
        yield self.tensor(f"{target}.ffn_up.weight", f"{source}.up_proj.weight", (hidden, width))
        yield self.tensor(f"{target}.ffn_down.weight", f"{source}.down_proj.weight", (width, hidden))
