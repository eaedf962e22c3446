"""EuroBERT: a Llama whose tokens attend to both sides, for embeddings of texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.pooling import pooling_key_values
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue, boolean


class EuroBert(Decoder):
    classes: ClassVar[tuple[str, ...]] = ("EuroBertModel", "EuroBertForMaskedLM")
    arch = "eurobert"
    defaults: ClassVar = {
        "vocab_size": 128256,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "hidden_act": "silu",
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
    }
    skipped: ClassVar[tuple[str, ...]] = (*COMPUTED_BUFFERS, r"lm_head\..*")
    rotates_neighbours = False
    takes_frequency_factors = False
    takes_head_dim = False

    def key_values(self) -> list[KeyValue]:
        for bias in ("attention_bias", "mlp_bias"):
            self.config.one_of(bias, False, None)
        return super().key_values()

    def embedding_key_values(self) -> list[KeyValue]:
        return [
            boolean(f"{self.arch}.attention.causal", False),
            *pooling_key_values(self.arch, self.directory),
        ]

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        yield from ()
