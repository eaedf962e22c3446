"""Qwen2 and Qwen2.5: Llama with biases on queries, keys and values, and rope over halves as in transformers."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.parts.decoder import Decoder
from converter.gguf.key_values import KeyValue, uint32


class Qwen2(Decoder):
    classes: ClassVar[tuple[str, ...]] = ("Qwen2ForCausalLM", "Qwen2Model")
    arch = "qwen2"
    in_transformers: ClassVar = {"qwen2": LINEAR_BY_NAME}
    defaults: ClassVar = {
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "num_key_value_heads": 32,
        "max_window_layers": 28,
        "sliding_window": 4096,
    }
    rotates_neighbours = False
    takes_frequency_factors = False
    takes_head_dim = False

    @property
    def sliding_window(self) -> int | None:
        layers = self.config.integer("num_hidden_layers")
        windowed = self.config.flag("use_sliding_window") and self.config.integer("max_window_layers", 0) < layers
        return self.config.integer("sliding_window") if windowed else None

    @property
    def query_bias(self) -> bool:
        return True

    @property
    def output_bias(self) -> bool:
        return False

    def head_key_values(self) -> list[KeyValue]:
        """Only where the config names a head length; otherwise llama.cpp's own hidden_size / heads holds."""
        if "head_dim" not in self.config:
            return []
        return [
            uint32(f"{self.arch}.attention.key_length", self.head_dim),
            uint32(f"{self.arch}.attention.value_length", self.head_dim),
        ]
