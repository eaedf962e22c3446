"""Qwen3 with a classifier on the last token's embedding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.families.encoders.reranker import output_labels
from converter.architectures.families.qwen.qwen3 import Qwen3
from converter.architectures.layer import Names
from converter.architectures.parts.logit_score import ANSWERS, answer_rows
from converter.architectures.parts.pooling import rank_key_values
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue


class Qwen3Reranker(Qwen3):
    """llama.cpp takes a softmax of the outputs: a label's probability, and of a single output its sigmoid."""

    classes: ClassVar[tuple[str, ...]] = ("Qwen3ForSequenceClassification",)
    names: ClassVar[Names] = {**Qwen3.names, "output": "score"}
    answers = None

    @property
    def labels(self) -> list[str]:
        return output_labels(self.config)

    def embedding_key_values(self) -> list[KeyValue]:
        return rank_key_values(self.arch, list(ANSWERS) if len(self.labels) == 1 else self.labels)

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        name, width = f"{self.source_name('output')}.weight", self.embedding_length
        head = self.tensor("cls.output.weight", name, (len(self.labels), width))
        yield head if len(self.labels) > 1 else answer_rows(name, width, 0, None)
