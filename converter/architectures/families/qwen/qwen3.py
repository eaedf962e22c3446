"""Qwen3: Qwen2 without biases, with RMS norms on each query and key head and heads of any length."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.families.qwen.qwen2 import Qwen2
from converter.architectures.parts.logit_score import LogitScore, answer_rows, find_logit_score
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue

#: The archs for which llama.cpp has a classifier of answers.
RANKING = ("qwen3", "qwen3vl")


class Qwen3(Qwen2):
    classes: ClassVar[tuple[str, ...]] = ("Qwen3ForCausalLM", "Qwen3Model")
    arch = "qwen3"
    in_transformers: ClassVar = {"qwen3": LINEAR_BY_NAME}
    defaults: ClassVar = {**Qwen2.defaults, "head_dim": 128}
    norms_heads = True
    takes_head_dim = True

    @property
    def query_bias(self) -> bool:
        return False

    @cached_property
    def answers(self) -> LogitScore | None:
        """The tokens by which a checkpoint ranks texts; None for others."""
        return find_logit_score(self.directory, self.vocab_size) if self.arch in RANKING else None

    def warnings(self) -> list[str]:
        ranks = "by its files it ranks texts: its GGUF file gives the probability of yes against no and no text"
        return [*super().warnings(), *([ranks] if self.answers else [])]

    def key_values(self) -> list[KeyValue]:
        # llama.cpp's qwen3 has no place for the output projection's bias.
        self.config.one_of("attention_bias", False, None)
        return super().key_values()

    def embedding_key_values(self) -> list[KeyValue]:
        return self.answers.key_values(self.arch) if self.answers else super().embedding_key_values()

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        """As Qwen2's; of a checkpoint that ranks texts only the rows of its answers are left."""
        if not self.answers:
            yield from super().output_matrix(shape)
            return
        own, embedding = (f"{self.source_name(part)}.weight" for part in ("output", "token_embd"))
        tied = self.config.flag("tie_word_embeddings") and own not in self.sources
        matrix = embedding if tied else own
        self.source(matrix, shape)
        yield answer_rows(matrix, shape[1], self.answers.true, self.answers.false)
