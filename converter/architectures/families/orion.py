"""Orion: Llama with layer norms. transformers has no class for it."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.gguf.key_values import KeyValue


class Orion(LayerNormDecoder):
    classes = ("OrionForCausalLM",)
    arch = "orion"
    defaults: ClassVar = {
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "num_key_value_heads": 40,
    }
    aliases: ClassVar = {"max_sequence_length": "max_position_embeddings"}
    activations = ("silu",)
    #: The norms are layer norms all the same.
    epsilon = "rms_norm_eps"
    needs_output = True

    def key_values(self) -> list[KeyValue]:
        for name in ("attention_bias", "mlp_bias"):
            self.config.one_of(name, False, None)
        return super().key_values()
