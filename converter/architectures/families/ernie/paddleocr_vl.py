"""PaddleOCR-VL with its vision tower left out: ERNIE 4.5 with positions of three numbers."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.families.ernie.ernie import Ernie
from converter.architectures.families.qwen.qwen_vl import ThreePositions
from converter.architectures.families.vision.vision_language import VisionLanguage
from converter.architectures.families.vision.vision_text_parts import EitherTied


class PaddleOCRVL(EitherTied, ThreePositions, Ernie):
    """The first pairs are time's, then come the rows', then the columns'."""

    classes = ("PaddleOCRVLForConditionalGeneration",)
    arch = "paddleocr"
    flat = True
    tied = True
    defaults: ClassVar = {
        **Ernie.defaults,
        "vocab_size": 103424,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 18,
        "num_attention_heads": 16,
    }
    skipped: ClassVar[tuple[str, ...]] = (*VisionLanguage.skipped, r"(model\.projector|mlp_AR)\..*")
