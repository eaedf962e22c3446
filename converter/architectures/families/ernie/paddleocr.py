"""PaddleOCR-VL's text model: ERNIE 4.5 with positions of three numbers."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.families.ernie.ernie import Ernie
from converter.architectures.parts.three_positions import ThreePositions


class PaddleOCRText(ThreePositions, Ernie):
    """The first pairs are time's, then come the rows', then the columns'."""

    arch = "paddleocr"
    defaults: ClassVar = {
        **Ernie.defaults,
        "vocab_size": 103424,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 18,
        "num_attention_heads": 16,
    }
