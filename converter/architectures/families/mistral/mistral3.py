"""Mistral Small 3.x and Ministral 3 with their vision towers left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from converter.architectures.families.mistral.ministral3 import Ministral3
from converter.architectures.families.mistral.mistral import Mistral
from converter.architectures.families.vision.vision_language import VisionLanguage, of_text_type
from converter.checkpoints.tensor import SourceTensor


class Mistral3Multimodal(VisionLanguage, Mistral):
    """Mistral Small 3.1 and 3.2, whose text model is Mistral; Ministral 3's has the same class name outside."""

    classes = ("Mistral3ForConditionalGeneration",)
    arch = "mistral3"
    tied = True

    def __new__(cls, config: Mapping[str, Any], sources: Mapping[str, SourceTensor]) -> Mistral3Multimodal:
        return object.__new__(of_text_type(config, TEXT_MODELS, "mistral"))


class Ministral3Multimodal(Mistral3Multimodal, Ministral3):
    """Ministral 3, whose queries grow with the logarithm of their position."""


#: Family of each ``model_type`` in ``text_config``.
TEXT_MODELS: dict[str, type[Mistral3Multimodal]] = {
    "mistral": Mistral3Multimodal,
    "ministral3": Ministral3Multimodal,
}
