"""GPTQ: integers packed down the columns of a transposed matrix.

    X.qweight  I32 (in / codes per word, out)      X.scales  (groups, out)
    X.qzeros   I32 (groups, out / codes per word)  X.g_idx   I32 (in,): the group of each input, with act-order

    weight[o, i] = (code[i, o] - zero[g[i], o]) * scale[g[i], o]

The first version of the format stores zero points less one (``checkpoint_format: gptq``, and where nothing is said);
``gptq_v2`` stores them as they are. https://github.com/ModelCloud/GPTQModel, ``nn_modules/qlinear``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.quantized.packed import WORD, unpack, word_run, words
from converter.checkpoints.quantized.panels import Panels, TurnedTensor
from converter.checkpoints.quantized.parts import FLOATS, Parts
from converter.errors import CheckpointError
from converter.sources.source_file import quoted

_LESS_ONE = {"gptq": True, "gptq_v2": False}


@dataclass(frozen=True)
class GptqTensor(TurnedTensor):
    """GPTQ's codes.

    Attributes:
        bits: of a code.
        less_one: whether the zero points were stored less one.
    """

    bits: int
    less_one: bool

    def read_codes(self, start: int, stop: int) -> NDArray[np.uint8]:
        packed = np.ascontiguousarray(self.codes.read_stored(0, self.codes.rows, slice(start, stop)).T)
        return unpack(packed.view(np.uint8), self.bits, self.row_length)

    def read_zeros(self, start: int, stop: int) -> NDArray[np.uint8]:
        packed = self.zero_points.read_stored(0, self.zero_points.rows, word_run(start, stop, self.bits))
        if self.less_one and WORD % self.bits == 0:
            # One was subtracted from whole words, where a zero point of 0 borrows from the next: so it is added.
            packed += np.uint32(sum(1 << bit for bit in range(0, WORD, self.bits)))
        zeros = unpack(packed.view(np.uint8), self.bits, stop - start)
        if self.less_one and WORD % self.bits:
            zeros = (zeros + np.uint8(1)) & np.uint8((1 << self.bits) - 1)
        return zeros.T


def read_gptq(parts: Parts) -> None:
    """Put each ``X.qweight`` and what belongs to it together as ``X.weight``, out × in.

    Raises:
        CheckpointError: a variant that is not read, a part is missing, or their shapes do not fit.
    """
    bits = parts.setting("bits", None, 2, 3, 4, 8)
    spoken = "checkpoint_format" if parts.settings.get("checkpoint_format") is not None else "format"
    less_one = _LESS_ONE[parts.setting(spoken, "gptq", *_LESS_ONE)]
    ordered = parts.setting("desc_act", False, True, False)
    asked, panels = group_size(parts), Panels()
    bases = parts.bases(".qweight")
    _drop_empty_biases(parts, bases)
    for base in bases:
        name = f"{base}.qweight"
        codes = parts.take(name, name, ("I32",), None, None)
        height, rows = codes.shape
        columns = height * WORD // bits
        size = columns if asked == -1 else asked
        groups = math.ceil(columns / size) if size else 0
        scales = parts.take(f"{base}.scales", name, FLOATS, groups, rows)
        zeros = parts.take(f"{base}.qzeros", name, ("I32",), groups, words(rows, bits))
        order = None
        if ordered or parts.get(f"{base}.g_idx") is not None:
            order = parts.take(f"{base}.g_idx", name, ("I32",), columns)
        if not rows or not columns or height * WORD % bits:
            raise parts.refused(
                name, f"has shape {quoted(codes.shape)}, which {bits} bits do not fill; download it again"
            )
        shape = (rows, columns)
        parts.give(
            GptqTensor(f"{base}.weight", "I32", shape, codes, scales, zeros, order, size, panels, bits, less_one), name
        )
    refuse_remaining(parts)


def _drop_empty_biases(parts: Parts, bases: list[str]) -> None:
    """AutoGPTQ gave every layer a bias, of zeros where the model has none: such a model's code does not know it."""
    biases = [bias for base in bases if (bias := parts.get(f"{base}.bias")) is not None]
    if len(biases) == len(bases):
        for bias in biases:
            if bias.dtype in FLOATS and not bias.read_rows(0, bias.rows).any():
                parts.take_any(bias.name)


def group_size(parts: Parts) -> int:
    """``group_size``: columns of a group, or -1 for the whole row.

    Raises:
        CheckpointError: it is neither.
    """
    size = parts.settings.get("group_size", 128)
    if type(size) is not int or (size < 1 and size != -1):
        raise CheckpointError(
            f"{parts.config}: group_size in quantization_config is {quoted(size)}, expected a positive number or -1"
        )
    return size


def refuse_remaining(parts: Parts) -> None:
    """Refuse the parts of a weight whose codes are missing."""
    for ending in (".qzeros", ".scales", ".g_idx"):
        for base in parts.bases(ending):
            raise parts.refused(f"{base}{ending}", f"has no {base}.qweight beside it; download the checkpoint again")
