"""MiniCPM 1 and 2: Llama with multipliers, spelled in fields of its own. transformers has no class for it."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.parts.decoder import Decoder
from converter.gguf.key_values import KeyValue, float32


class MiniCPM(Decoder):
    classes = ("MiniCPMForCausalLM",)
    arch = "minicpm"
    defaults: ClassVar = {**Decoder.defaults, "tie_word_embeddings": True}

    def key_values(self) -> list[KeyValue]:
        config = self.config
        if config.optional_integer("num_experts", 0):
            raise config.refusal("num_experts", "MiniCPM's experts are not supported")
        scale = config.positive("scale_emb")
        residual = config.positive("scale_depth") / config.integer("num_hidden_layers") ** 0.5
        return [
            *super().key_values(),
            float32(f"{self.arch}.embedding_scale", scale),
            float32(f"{self.arch}.residual_scale", residual),
            float32(f"{self.arch}.logit_scale", self.embedding_length / config.positive("dim_model_base")),
        ]
