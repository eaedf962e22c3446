"""RoBERTa, XLM-R and CamemBERT: BERT whose positions are counted from behind the padding token's id."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.families.encoders.bert import Bert, bert_names
from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.layer import Names


class Roberta(Bert):
    classes: ClassVar[tuple[str, ...]] = ("RobertaModel", "RobertaForMaskedLM")
    defaults: ClassVar = {**Bert.defaults, "vocab_size": 50265, "pad_token_id": 1}
    names: ClassVar[Names] = bert_names("roberta")
    skipped: ClassVar[tuple[str, ...]] = (
        *COMPUTED_BUFFERS,
        r"(roberta\.)?embeddings\.(position_ids|token_type_ids)",
        r"(roberta\.)?pooler\..*",
        r"lm_head\..*",
    )
    body = "roberta."

    @property
    def first_position(self) -> int:
        return self.config.integer("pad_token_id", minimum=0) + 1


class XLMRoberta(Roberta):
    classes: ClassVar[tuple[str, ...]] = (
        "XLMRobertaModel",
        "XLMRobertaForMaskedLM",
        "CamembertModel",
        "CamembertForMaskedLM",
    )
    defaults: ClassVar = {**Roberta.defaults, "vocab_size": 30522}
