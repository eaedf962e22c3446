"""Experts as MLX stacks them, seen one by one as their model's class has them.

MLX holds a projection of all experts of a layer in ``X.switch_mlp.P.weight`` of shape (experts, out, in), quantized or
not, where transformers saves ``X.experts.0.P.weight``, ``X.experts.1.P.weight`` and so on
(https://github.com/ml-explore/mlx-lm, ``sanitize`` of each model with experts).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.tensor import SourceTensor

_STACKED = re.compile(r"(?P<layer>.+)\.switch_mlp\.(?P<projection>\w+)\.(?P<part>weight|bias)")
_OF_MIXTRAL: Mapping[str, str] = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}


@dataclass(frozen=True)
class StackedTensor(SourceTensor):
    """One of the matrices that another tensor stacks.

    Attributes:
        stack: all of them.
        first: row of the stack that is this one's first.
    """

    stack: SourceTensor
    first: int

    @property
    def nbytes(self) -> int:
        return self.stack.nbytes // self.stack.shape[0]

    def read_rows(
        self, start: int, stop: int, columns: slice | None = None, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        _, out = self.span(start, stop, columns, out)
        return self.stack.read_rows(self.first + start, self.first + stop, columns, out)


def unstacked(tensors: Mapping[str, SourceTensor]) -> dict[str, SourceTensor]:
    """The tensors with stacked experts one by one, in the stack's place."""
    found: dict[str, SourceTensor] = {}
    for name, tensor in tensors.items():
        match = _STACKED.fullmatch(name)
        if match is None or len(tensor.shape) != {"weight": 3, "bias": 2}[match["part"]]:
            found[name] = tensor
            continue
        projection = match["projection"]
        if match["layer"].endswith(".block_sparse_moe"):
            projection = _OF_MIXTRAL.get(projection, projection)
        shape = tensor.shape[1:]
        rows = shape[0] if len(shape) == 2 else 1
        for expert in range(tensor.shape[0]):
            own = f"{match['layer']}.experts.{expert}.{projection}.{match['part']}"
            found[own] = StackedTensor(own, tensor.dtype, shape, tensor, expert * rows)
    return found
