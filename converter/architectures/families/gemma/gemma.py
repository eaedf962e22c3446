"""Gemma: norms hold their weight minus one, heads of any length, the embedding is the output matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.tied import require_tied
from converter.architectures.target import Operation, TargetTensor
from converter.gguf.key_values import KeyValue


class Gemma(Decoder):
    classes = ("GemmaForCausalLM",)
    arch = "gemma"
    in_transformers: ClassVar = {"gemma": LINEAR_BY_NAME}
    defaults: ClassVar = {
        "hidden_act": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "num_key_value_heads": 16,
        "head_dim": 256,
        "tie_word_embeddings": True,
    }
    skipped: ClassVar[tuple[str, ...]] = (*COMPUTED_BUFFERS, r"lm_head\.weight")
    # Gemma's first files say "gelu" and mean the approximation, as transformers knows.
    activations: ClassVar[tuple[str, ...]] = ("gelu_pytorch_tanh", "gelu")
    body = ""
    norm_operation: ClassVar[Operation | None] = Operation("add", 1.0)
    rotates_neighbours = False
    takes_frequency_factors = False
    #: Values of ``use_bidirectional_attention`` that llama.cpp runs in this arch.
    bidirectional: ClassVar[tuple[bool | None, ...]] = (False, None)

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        require_tied(self, *(f"{self.source_name(part)}.weight" for part in ("token_embd", "output")))
        yield from ()

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("attention_bias", False, None)
        self.config.one_of("use_bidirectional_attention", *self.bidirectional)
        return super().key_values()
