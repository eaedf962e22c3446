"""What a method is for directories of safetensors: the type of plain weights, and the layout of quantized ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.plan import PlannedTensor
from converter.quants.encoding import Encoding, StoredTensor


@dataclass(frozen=True)
class NumberEncoding(Encoding):
    """Element by element, as numbers of the type that ``name`` spells.

    Attributes:
        whole: numpy's name of the type where the elements are whole numbers, below 2**24; float32 otherwise passes
            through ``block_type``.
    """

    whole: str | None = None

    def stored(self, name: str, shape: tuple[int, ...]) -> tuple[StoredTensor, ...]:
        length = shape[-1] if shape else 1
        nbytes = np.dtype(self.whole).itemsize * length if self.whole else self.kind.row_bytes(length)
        return (StoredTensor(name, self.name, shape, nbytes),)

    def split(self, blocks: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
        return (blocks.view(np.float32).astype(self.whole).view(np.uint8) if self.whole else blocks,)


#: Of weights, by the type's name in ``QUANT_TYPES``.
PLAIN = {name: NumberEncoding(name.upper(), name) for name in ("f32", "f16", "bf16")}
#: Of constants.
LEVELS = PLAIN["f32"]
INTEGERS = NumberEncoding("I64", "f32", whole="<i8")
BYTES = NumberEncoding("U8", "f32", whole="u1")

#: torch's names of the types in ``PLAIN``, as ``config.json`` gives them.
TORCH_DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Scheme:
    """How the linear weights of a model are quantized.

    Attributes:
        encoding: of the weights.
        plain: type of all others, a key of ``PLAIN``.
        experts: whether transformers also reads the weights of single experts that it merges.
        constants: further tensors of a weight, from its name and shape.
        configuration: ``quantization_config``, from the names of linear modules that stay plain (``re:`` and a pattern
            for several).
        package: what has to be installed to load it: the module, and what pip calls it.
        dense: what the configuration says besides to have dense weights made while loading.
        plain_experts: whether it reads them plain beside quantized weights.
        derived: whether it reads those of modules whose class is derived from torch's linear one.
        keeps_bfloat16: whether the plain weights of a bfloat16 model stay bfloat16, with whose range it was trained.
    """

    encoding: Encoding
    plain: str
    experts: bool
    constants: Callable[[str, tuple[int, ...]], tuple[PlannedTensor, ...]]
    configuration: Callable[[Sequence[str]], dict[str, Any]]
    package: tuple[str, str]
    dense: Mapping[str, Any] = field(default_factory=dict)
    plain_experts: bool = True
    derived: bool = True
    keeps_bfloat16: bool = False

    def plain_of(self, config: Mapping[str, Any], *, experts: bool) -> str:
        """Type of the plain weights, a key of ``PLAIN``.

        Args:
            config: ``config.json`` of the source.
            experts: single experts are quantized: transformers merges them in the type of their scales, float16, which
                has to be the whole model's.
        """
        parts = [
            config,
            *(part for name, part in config.items() if name.endswith("_config") and isinstance(part, dict)),
        ]
        dtypes = (part.get("dtype", part.get("torch_dtype")) for part in parts)
        named = next((dtype for dtype in dtypes if dtype is not None), None)
        keeps = self.keeps_bfloat16 and not experts and named == TORCH_DTYPES["bf16"]
        return "bf16" if keeps else self.plain
