"""SmolLM3: Llama without rope in every fourth layer."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.parts.decoder import Decoder
from converter.gguf.key_values import KeyValue


class SmolLM3(Decoder):
    classes = ("SmolLM3ForCausalLM",)
    arch = "smollm3"
    in_transformers: ClassVar = {"smollm3": LINEAR_BY_NAME}
    defaults: ClassVar = {
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "num_key_value_heads": 4,
        "rope_theta": 2e6,
        "no_rope_layer_interval": 4,
        "tie_word_embeddings": True,
    }
    takes_frequency_factors = False

    @property
    def sliding_window(self) -> int | None:
        windowed = self.config.flag("use_sliding_window") and "sliding_window" in self.config
        return self.config.integer("sliding_window") if windowed else None

    def key_values(self) -> list[KeyValue]:
        config = self.config
        config.one_of("attention_bias", False, None)
        config.one_of("mlp_bias", False, None)
        layers = range(1, config.integer("num_hidden_layers") + 1)
        usual = [int(layer % config.integer("no_rope_layer_interval") != 0) for layer in layers]
        field = "no_rope_layers"
        roped = (config.integers(field) if field in config else []) or usual
        if roped != [int(layer % 4 != 0) for layer in layers]:
            raise config.with_fields(no_rope_layers=roped).refusal(
                field,
                f"but llama.cpp runs {self.arch} only without rope in every fourth layer (1 for a layer with rope)",
            )
        return super().key_values()
