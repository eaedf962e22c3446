"""Weights as torchao's ``IntxUnpackedToInt8Tensor``: an int8 for each, a scale and a zero point for each group of 32.

torchao keeps integers of fewer than eight bits in an int8 each. A weight stands for ``(integer - zero point) * scale``.
The symmetric encodings hold the very numbers of the GGUF blocks of the same name; the asymmetric ones, whose GGUF
namesakes have a float minimum that torchao lacks, those of ``torchao.quantization.quantize_``.

Source: ``IntxUnpackedToInt8Tensor``, ``_choose_qparams_affine`` and ``_quantize_affine_no_dtype_cast`` of torchao.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.architectures import in_transformers
from converter.errors import RecipeError
from converter.formats.safetensors_modules import LinearModules
from converter.formats.safetensors_scheme import Scheme
from converter.quants.encoding import Encoding, StoredTensor, WeightTooLarge
from converter.quants.kernel import Block, Source, Target, block_kernel, decoder
from converter.quants.simple import half

#: Weights of a group, those of a GGUF block.
GROUP = 32

_SMALLEST_NORMAL = float(np.finfo(np.float32).smallest_normal)


# --- kernels ---------------------------------------------------------------------------------------------------------


def _centred(block: Block, out: Target, nibbles: int, fifths: int | None = None) -> None:
    """Nibbles from byte ``nibbles`` on, and fifth bits from byte ``fifths`` on if any, as integers around zero."""
    packed = block.load(nibbles, 16)
    quants = (packed & 15).joined(packed >> 4)
    if fifths is not None:
        quants = quants | block.word(fifths).unpacked().where(quants.filled(16), quants.filled(0))
    out.store(0, quants - (8 if fifths is None else 16))


# A decoder fills an array of float32: 32 integers take the room of eight.
@decoder(18, 8)
def _centred_q4_0(block: Block, out: Target) -> None:
    _centred(block, out, 2)


@decoder(22, 8)
def _centred_q5_0(block: Block, out: Target) -> None:
    _centred(block, out, 6, 2)


def _spread(x: Source, out: Target, bits: int) -> None:
    """32 integers, the scale and the zero point of a group whose range, zero included, they cover."""
    lowest, highest = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    values = x.load(0, GROUP)
    minimum = values.min().at_most(0.0)
    scale = ((values.max().at_least(0.0) - minimum) / (highest - lowest)).at_least(_SMALLEST_NORMAL)
    zero = ((minimum / scale).rounded().negated() + lowest).at_most(highest)
    quants = (values * (1.0 / scale)).rounded() + zero
    out.store(0, quants.at_least(lowest).at_most(highest).truncated().bytes())
    out.store(GROUP, half(scale))
    out.store(GROUP + 2, zero.truncated().bytes())


@block_kernel(GROUP, GROUP + 3)
def _spread_4(x: Source, out: Target) -> None:
    _spread(x, out, 4)


@block_kernel(GROUP, GROUP + 3)
def _spread_5(x: Source, out: Target) -> None:
    _spread(x, out, 5)


_CENTRED = {"q4_0": _centred_q4_0, "q5_0": _centred_q5_0}
_SPREAD = {4: _spread_4, 5: _spread_5}


def _part(blocks: NDArray[np.uint8], block_bytes: int, first: int, count: int) -> NDArray[np.uint8]:
    """Bytes ``first`` to ``first + count`` of each block: (n, blocks * block_bytes) to (n, blocks * count)."""
    layout = np.dtype({"names": ["part"], "formats": [f"V{count}"], "offsets": [first], "itemsize": block_bytes})
    return np.ascontiguousarray(blocks.view(layout)["part"]).view(np.uint8)


# --- encodings -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class IntxEncoding(Encoding):
    """Symmetric: integer and scale of each GGUF block, all zero points zero.

    Attributes:
        bits: of an integer.
        mapping: a name of torchao's ``MappingType``.
    """

    bits: int = 8
    mapping: str = "SYMMETRIC"

    @property
    def weight_dtype(self) -> str:
        """torch's name of the integers' range."""
        return f"int{self.bits}"

    def stored(self, name: str, shape: tuple[int, ...]) -> tuple[StoredTensor, ...]:
        """Integers, scales and zero points, named as torchao flattens a weight.

        Raises:
            RecipeError: a row is not a whole number of groups.
        """
        *leading, columns = shape
        if columns % GROUP:
            raise RecipeError(f"{name}: rows of {columns} weights are not a multiple of torchao's group of {GROUP}")
        groups = columns // GROUP
        owner, dot, parameter = name.rpartition(".")
        prefix, grouped = f"{owner}{dot}_{parameter}_", (*leading, groups)
        return (
            StoredTensor(f"{prefix}qdata", "I8", shape, columns),
            StoredTensor(f"{prefix}scale", "F16", grouped, 2 * groups),
            StoredTensor(f"{prefix}zero_point", "I8", grouped, groups),
        )

    def split(self, blocks: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
        n, row_bytes = blocks.shape
        size = self.kind.block_bytes
        groups = row_bytes // size
        if (unpack := _CENTRED.get(self.block_type)) is None:
            integers = _part(blocks, size, 2, GROUP)
        else:
            integers = np.empty((n, groups * GROUP), np.uint8)
            unpack(blocks, integers.view(np.float32))
        return integers, _part(blocks, size, 0, 2), np.zeros((n, groups), np.uint8)


@dataclass(frozen=True)
class AsymmetricIntxEncoding(IntxEncoding):
    """The range of each group, zero included, spread over all integers, of which the zero point is one."""

    takes_blocks: bool = False
    mapping: str = "ASYMMETRIC"

    def encode(
        self, rows: NDArray[np.float32], importance: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.uint8], ...]:
        n, columns = rows.shape
        size = GROUP + 3
        groups = np.empty((n, columns // GROUP * size), np.uint8)
        _SPREAD[self.bits](rows, groups)
        scales = _part(groups, size, GROUP, 2)
        if infinite := int(np.count_nonzero(scales.view(np.uint16) == 0x7C00)):
            raise WeightTooLarge(infinite)
        return _part(groups, size, 0, GROUP), scales, _part(groups, size, GROUP + 2, 1)


#: By method.
INTX = {
    "q4_0": IntxEncoding("torchao q4_0", "q4_0", bits=4),
    "q5_0": IntxEncoding("torchao q5_0", "q5_0", bits=5),
    "q8_0": IntxEncoding("torchao q8_0", "q8_0", bits=8),
    "q4_1": AsymmetricIntxEncoding("torchao q4_1", "q4_1", bits=4),
    "q5_1": AsymmetricIntxEncoding("torchao q5_1", "q5_1", bits=5),
}


def quantization_config(encoding: IntxEncoding, plain: Sequence[str]) -> dict[str, Any]:
    """What transformers' ``TorchAoConfig`` writes into ``config.json`` for ``IntxWeightOnlyConfig``.

    Args:
        encoding: of the quantized weights.
        plain: names of the linear modules whose weights are not, or ``re:`` and a pattern for several.
    """
    settings = {
        "weight_dtype": {"_type": "torch.dtype", "_data": encoding.weight_dtype},
        "granularity": {"_type": "PerGroup", "_version": 1, "_data": {"group_size": GROUP}},
        "mapping_type": {"_type": "MappingType", "_data": encoding.mapping},
        "scale_dtype": None,
        "intx_packing_format": {"_type": "IntxPackingFormat", "_data": "UNPACKED_TO_INT8"},
        "intx_choose_qparams_algorithm": {"_type": "IntxChooseQParamsAlgorithm", "_data": "AFFINE"},
    }
    return {
        "quant_method": "torchao",
        "quant_type": {"default": {"_type": "IntxWeightOnlyConfig", "_version": 2, "_data": settings}},
        "modules_to_not_convert": [name.removeprefix("re:") for name in plain],
        "include_input_output_embeddings": False,
        "untie_embedding_weights": False,
    }


def fitting(modules: LinearModules, model_type: str) -> LinearModules:
    """The linear modules of a model, those that torchao's tensors cannot stand in for among the others."""
    own_products = in_transformers(model_type).own_products
    if not own_products:
        return modules
    blocks = {name: module for name, module in modules.blocks.items() if not re.search(own_products, module)}
    others = {*modules.others, *modules.blocks.values()} - set(blocks.values())
    return replace(modules, blocks=blocks, others=tuple(sorted(others)))


#: By method. transformers gives torchao's tensors to whole parameters only, not to experts that it merges.
SCHEMES = {
    method: Scheme(
        encoding,
        plain="f16",
        experts=False,
        constants=lambda name, shape: (),
        configuration=partial(quantization_config, encoding),
        package=("torchao", "torchao"),
        keeps_bfloat16=True,
    )
    for method, encoding in INTX.items()
}
