"""GPTQ: integers packed down the columns of a transposed matrix.

    X.qweight  I32 (in / codes per word, out)      X.scales  (groups, out)
    X.qzeros   I32 (groups, out / codes per word)  X.g_idx   I32 (in,): the group of each input, with act-order

    weight[o, i] = (code[i, o] - zero[g[i], o]) * scale[g[i], o]

The first version of the format stores zero points less one (``checkpoint_format: gptq``, and where nothing is said);
``gptq_v2`` stores them as they are. https://github.com/ModelCloud/GPTQModel, ``nn_modules/qlinear``. Checkpoints say
the wrong one often enough that the zero points themselves are asked first (:func:`_stored_less_one`).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.quantized.groups import group_of_columns
from converter.checkpoints.quantized.packed import WORD, unpack, word_run, words
from converter.checkpoints.quantized.packing import GPTQ, check_packing
from converter.checkpoints.quantized.panels import Panels, TurnedTensor
from converter.checkpoints.quantized.parts import FLOATS, Parts
from converter.checkpoints.safetensors import SafetensorsTensor
from converter.errors import CheckpointError
from converter.sources.source_file import quoted

_LESS_ONE = {"gptq": True, "gptq_v2": False}
_NAMES = {less_one: name for name, less_one in _LESS_ONE.items()}

_ERROR, _NEAR = 0.1, 0.2
"""Steps: the standard error at most of a mean that is believed, and how near a whole one it must be to count."""


@dataclass(frozen=True)
class GptqTensor(TurnedTensor):
    """GPTQ's codes.

    Attributes:
        bits: of a code.
        less_one: whether the zero points were stored less one.
        symmetric: the zero points must all be in the middle of the codes.
    """

    bits: int
    less_one: bool
    symmetric: bool

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
        middle = 1 << (self.bits - 1)
        if self.symmetric and (zeros != middle).any():
            raise _not_symmetric(self.zero_points, int(zeros[zeros != middle][0]), middle)
        return zeros.T


def read_gptq(parts: Parts) -> None:
    """Put each ``X.qweight`` and what belongs to it together as ``X.weight``, out × in.

    Raises:
        CheckpointError: a variant that is not read, a part is missing, or their shapes do not fit.
    """
    bits = parts.setting("bits", None, 2, 3, 4, 8)
    spoken = "checkpoint_format" if parts.settings.get("checkpoint_format") is not None else "format"
    said = parts.setting(spoken, "gptq", *_LESS_ONE)
    symmetric = parts.settings.get("sym") is True
    ordered = parts.setting("desc_act", False, True, False)
    asked, panels = group_size(parts), Panels()
    bases = parts.bases(".qweight")
    _drop_empty_biases(parts, bases)
    less_one = None
    for base in bases:
        name = f"{base}.qweight"
        check_packing(parts, base, GPTQ)
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
        weights = GptqTensor(
            f"{base}.weight", "I32", (rows, columns), codes, scales, zeros, order, size, panels, bits, False, symmetric
        )
        if less_one is None:
            less_one = _stored_less_one(parts, weights, spoken, said)
        parts.give(dataclasses.replace(weights, less_one=less_one), name)
    refuse_remaining(parts)


def _stored_less_one(parts: Parts, weights: GptqTensor, spoken: str, said: str) -> bool:
    """Whether the zero points are stored less one, by what one tensor of the checkpoint holds.

    Symmetric zero points are all in the middle of the codes, so they tell it themselves. Others tell it by the mean of
    codes less zero points, which is near 0 because weights are: read the wrong way it is off by one whole step.

    Args:
        parts: told where the configuration says otherwise.
        weights: any tensor of the checkpoint.
        spoken, said: field of ``quantization_config`` that names the format, and the format.

    Raises:
        CheckpointError: zero points that are not symmetric though ``sym`` says so, or are not stored as ``said``.
    """
    middle, tensor = 1 << (weights.bits - 1), weights.zero_points
    words_of_groups = np.ascontiguousarray(tensor.read_stored(0, tensor.rows))
    stored = unpack(words_of_groups.view(np.uint8), weights.bits, weights.rows)
    values = np.unique(stored)
    if parts.settings.get("sym", True) is not False and len(values) == 1 and values[0] in (middle - 1, middle):
        less_one = bool(values[0] == middle - 1)
        if less_one != _LESS_ONE[said]:
            parts.notices.append(
                f"{parts.config}: {spoken} in quantization_config says {said!r}, but the zero points are stored as "
                f"{values[0]}, as {_NAMES[less_one]!r} does; they are read as that"
            )
        return less_one
    less_one = _LESS_ONE[said]
    if weights.symmetric:
        zeros = stored.astype(np.int64) + less_one
        raise _not_symmetric(tensor, int(zeros[zeros != middle][0]), middle)
    codes = weights.read_codes(0, min(weights.panel_rows, weights.rows))
    groups = group_of_columns(weights.groups, weights.row_length, weights.group_size)
    of_columns = np.arange(weights.row_length) // weights.group_size if groups is None else groups
    # The mean of each row, whose zero points are chosen together with its codes: far surer than either alone.
    rows = codes.mean(axis=1) - stored[of_columns, : len(codes)].mean(axis=0)
    excess, error = float(rows.mean()), float(rows.std()) / math.sqrt(len(rows))
    if weights.bits <= 4 and error < _ERROR and abs(excess - (not less_one)) < _NEAR:
        raise CheckpointError(
            f"{parts.config}: {spoken} in quantization_config says {said!r}, but {tensor.name} holds zero points as "
            f"{_NAMES[not less_one]!r} stores them: every weight would be off by one step; correct {spoken}"
        )
    return less_one


def _not_symmetric(zero_points: SafetensorsTensor, found: int, middle: int) -> CheckpointError:
    return CheckpointError(
        f"{zero_points.file.path}: tensor {zero_points.name} holds the zero point {found}, but sym in "
        f"quantization_config is true, which means {middle} for all; correct sym, or download the checkpoint again"
    )


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
