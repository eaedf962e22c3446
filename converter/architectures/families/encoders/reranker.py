"""Encoders with a head that gives a text one score for each label: rerankers, and classifiers of texts.

llama.cpp pools them as "rank": ``cls.weight`` on the first token's embedding (ModernBERT's may be the mean), its
activation, then ``cls.output.weight``, with as many outputs as ``{arch}.classifier.output_labels``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.families.encoders.bert import Bert
from converter.architectures.families.encoders.modern_bert import ModernBert
from converter.architectures.families.encoders.roberta import Roberta, XLMRoberta
from converter.architectures.family import COMPUTED_BUFFERS, COMPUTED_OTHERWISE
from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.parts.encoder import Encoder
from converter.architectures.parts.pooling import MODES, rank_key_values
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue, uint32

COMPUTED_OTHERWISE["DistilBertForSequenceClassification"] = (
    "its head has a relu behind its first layer, llama.cpp's a tanh"
)


def output_labels(config: Hyperparameters) -> list[str]:
    """Names of the classifier's outputs in their order; transformers has two where ``id2label`` is missing.

    Raises:
        ArchitectureError: ``id2label`` is no object with a name for each number from 0.
    """
    field = "id2label"
    if field not in config:
        return ["LABEL_0", "LABEL_1"]
    labels = config.section(field)
    numbers = [str(number) for number in range(len([*labels]))]
    if not numbers or not all(number in labels for number in numbers):
        raise config.refusal(field, "a name for each number from 0 expected")
    return [labels.text(number) for number in numbers]


class Reranker(Encoder):
    """The head of an encoder, to be put before the encoder's own class.

    Attributes:
        dense: source name of the head's first layer, without ``.weight`` and ``body``.
        classifier: source name of its last one.
    """

    dense: ClassVar[str]
    classifier: ClassVar[str] = "classifier"

    def pooling_key_values(self) -> list[KeyValue]:
        return rank_key_values(self.arch, output_labels(self.config))

    def head(self) -> Iterator[TargetTensor]:
        width, labels = self.embedding_length, len(output_labels(self.config))
        yield from self.linear("cls", self.dense, (width, width), bias=True)
        yield from self.linear("cls.output", self.classifier, (labels, width), bias=True)


class BertReranker(Reranker, Bert):
    """What transformers calls the pooler is the first layer of llama.cpp's head."""

    classes = ("BertForSequenceClassification",)
    skipped: ClassVar[tuple[str, ...]] = (*COMPUTED_BUFFERS, r"bert\.embeddings\.(position_ids|token_type_ids)")
    dense = "bert.pooler.dense"

    def warnings(self) -> list[str]:
        if self.token_types == 1:
            return super().warnings()
        return [
            *super().warnings(),
            "where two texts are scored as a pair, the model tells the second by its token type, and llama.cpp gives "
            "all tokens the first: scores are exact for texts of one token type only",
        ]


class RobertaReranker(Reranker, Roberta):
    classes = ("RobertaForSequenceClassification",)
    skipped: ClassVar[tuple[str, ...]] = (*COMPUTED_BUFFERS, r"roberta\.embeddings\.(position_ids|token_type_ids)")
    dense, classifier = "classifier.dense", "classifier.out_proj"


class XLMRobertaReranker(Reranker, XLMRoberta):
    classes: ClassVar[tuple[str, ...]] = ("XLMRobertaForSequenceClassification", "CamembertForSequenceClassification")
    skipped = RobertaReranker.skipped
    dense, classifier = RobertaReranker.dense, RobertaReranker.classifier


class ModernBertReranker(Reranker, ModernBert):
    classes: ClassVar[tuple[str, ...]] = ("ModernBertForSequenceClassification",)
    defaults: ClassVar = {
        **ModernBert.defaults,
        "classifier_pooling": "cls",
        "classifier_bias": False,
        "classifier_activation": "gelu",
    }
    skipped = COMPUTED_BUFFERS

    def pooling_key_values(self) -> list[KeyValue]:
        self.config.one_of("classifier_bias", False)
        self.config.one_of("classifier_activation", "gelu")
        mode = MODES[self.config.one_of("classifier_pooling", "cls", "mean")]
        return [*super().pooling_key_values(), uint32(f"{self.arch}.classifier.pooling_type", mode)]

    def head(self) -> Iterator[TargetTensor]:
        width, labels = self.embedding_length, len(output_labels(self.config))
        yield from self.linear("cls", "head.dense", (width, width))
        yield self.tensor("cls.norm.weight", "head.norm.weight", (width,))
        yield from self.linear("cls.output", self.classifier, (labels, width), bias=True)
