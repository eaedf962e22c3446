"""MiniCPM 1 and 2: Llama with multipliers, spelled in fields of its own. transformers has no class for it."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.parts.decoder import Decoder
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, float32


class MiniCPM(Decoder):
    classes = ("MiniCPMForCausalLM",)
    arch = "minicpm"
    defaults: ClassVar = {**Decoder.defaults, "tie_word_embeddings": True}

    def key_values(self) -> list[KeyValue]:
        config = self.config
        if config.get("num_experts"):
            raise ArchitectureError(
                f"config.json: 'num_experts' is {config.get('num_experts')!r}, MiniCPM's experts are not supported"
            )
        for name in ("scale_emb", "scale_depth", "dim_model_base"):
            if not config.number(name) > 0:
                raise ArchitectureError(f"config.json: {name!r} is {config.get(name)!r}, a positive number expected")
        residual = config.number("scale_depth") / config.integer("num_hidden_layers") ** 0.5
        return [
            *super().key_values(),
            float32(f"{self.arch}.embedding_scale", config.number("scale_emb")),
            float32(f"{self.arch}.residual_scale", residual),
            float32(f"{self.arch}.logit_scale", self.embedding_length / config.number("dim_model_base")),
        ]
