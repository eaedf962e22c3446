"""quanto's weights of 8 bits: ``X._data`` (I8 or FP8) and ``X._scale`` for each row, ``X`` ending with ``.weight``.

https://github.com/huggingface/optimum-quanto, ``tensor/weights/qbytes.py``; what has fewer bits is not read.
"""

from __future__ import annotations

import dataclasses

from converter.checkpoints.quantized.parts import Parts
from converter.checkpoints.quantized.scaled import take_scaled

DATA, SCALE = "._data", "._scale"


def read_quanto(parts: Parts) -> None:
    """Put each matrix of codes and its scales together.

    Raises:
        CheckpointError: a part is missing, or their shapes do not fit.
    """
    for ending in (".input_scale", ".output_scale"):
        for base in parts.bases(ending):
            parts.take_any(f"{base}{ending}")
    for name in parts.bases(DATA):
        weights = take_scaled(parts, f"{name}{DATA}", f"{name}{SCALE}", None, None)
        parts.give(dataclasses.replace(weights, name=name), f"{name}{DATA}")
    for name in parts.bases(SCALE):
        raise parts.refused(f"{name}{SCALE}", f"has no {name}{DATA} beside it; download the checkpoint again")
