"""EmbeddingGemma: Gemma 3 whose tokens attend to both sides, for embeddings of texts."""

from __future__ import annotations

from collections.abc import Iterator

from converter.architectures.families.gemma.gemma3 import Gemma3
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, boolean


class EmbeddingGemma(Gemma3):
    classes = ("Gemma3TextModel",)
    arch = "gemma-embedding"
    body = "model."
    bidirectional = (True,)
    layers_of_27b = None

    def key_values(self) -> list[KeyValue]:
        if not any(self.windows):
            raise ArchitectureError(
                f"config.json: 'layer_types' has no sliding_attention, but llama.cpp runs {self.arch} only with it"
            )
        return [
            *super().key_values(),
            boolean(f"{self.arch}.attention.causal", False),
        ]

    def cap_key_values(self) -> list[KeyValue]:
        # There are no logits to cap.
        self.config.one_of("attn_logit_softcapping", None)
        return []

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        yield from ()
