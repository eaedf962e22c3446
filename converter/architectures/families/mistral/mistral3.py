"""Mistral Small 3.x and Ministral 3 with their vision towers left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from converter.architectures.families.mistral.ministral3 import Ministral3
from converter.architectures.families.mistral.mistral import Mistral
from converter.architectures.families.vision.vision_language import VisionLanguage, text_config
from converter.checkpoints.tensor import SourceTensor
from converter.errors import ArchitectureError


class Mistral3Multimodal(VisionLanguage, Mistral):
    """Mistral Small 3.1 and 3.2, whose text model is Mistral; Ministral 3's has the same class name outside."""

    classes = ("Mistral3ForConditionalGeneration",)
    arch = "mistral3"
    tied = True

    def __new__(cls, config: Mapping[str, Any], sources: Mapping[str, SourceTensor]) -> Mistral3Multimodal:
        kind = text_config(config).get("model_type", "mistral")
        if not isinstance(kind, str) or kind not in TEXT_MODELS:
            raise ArchitectureError(
                f"config.json: 'model_type' in 'text_config' is {kind!r}, but only {' or '.join(TEXT_MODELS)} is "
                "converted in this class"
            )
        return object.__new__(TEXT_MODELS[kind])


class Ministral3Multimodal(Mistral3Multimodal, Ministral3):
    """Ministral 3, whose queries grow with the logarithm of their position."""


#: Family of each ``model_type`` in ``text_config``.
TEXT_MODELS: dict[str, type[Mistral3Multimodal]] = {
    "mistral": Mistral3Multimodal,
    "ministral3": Ministral3Multimodal,
}
