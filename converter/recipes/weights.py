"""Which importance weights each tensor is quantized with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from converter.errors import RecipeError
from converter.quants import QUANT_TYPES
from converter.recipes import rules
from converter.recipes.methods import Method
from converter.recipes.overrides import Overrides

if TYPE_CHECKING:
    from converter.architectures.target import TargetTensor
    from converter.imatrix import ImportanceMatrix


def needs_importance(method: Method, name: str, type_name: str) -> bool:
    """Whether a tensor of that type is useless without importance weights."""
    if name in (*rules.EMBEDDINGS, "output.weight"):
        return False
    return type_name in rules.NEED_IMPORTANCE | rules.NEED_IMPORTANCE_IN.get(method.name, frozenset())


def column_weights(
    method: Method,
    targets: Sequence[TargetTensor],
    types: Sequence[str],
    matrix: ImportanceMatrix | None,
    overrides: Overrides,
    originals: Mapping[str, str],
) -> dict[str, NDArray[np.float32]]:
    """The weights of each quantized tensor that has some.

    Args:
        method: what the user asked for.
        targets: all tensors.
        types: type of each.
        matrix: the importance matrix, if there is one.
        overrides: which tensors' weights are used.
        originals: the matrix's names of renamed tensors.

    Returns:
        By tensor name, float32 of shape (matrices, row_length).

    Raises:
        RecipeError: a tensor that is useless without weights has none; it is named.
        ImatrixError: the matrix was made for another model.
    """
    from converter.imatrix import ImatrixError

    weights = {}
    for target, kind in zip(targets, types, strict=True):
        name = originals.get(target.name, target.name)
        if QUANT_TYPES[kind].block_size == 1:
            continue
        if matrix is not None and overrides.weighs(name) and name in matrix:
            try:
                weights[target.name] = matrix.importance_of(name, target.shape)
            except ImatrixError:
                # A row is looked up here, not multiplied: what was measured may be of another kind.
                if name not in rules.EMBEDDINGS:
                    raise
        if target.name in weights:
            continue
        if needs_importance(method, target.name, kind) or QUANT_TYPES[kind].requires_importance:
            lack = "no importance matrix is given" if matrix is None else f"{matrix.origin} has no data for it"
            raise RecipeError(
                f"{target.name}: {kind} needs importance weights, but {lack}; pass --imatrix FILE, --calibrate TEXT or "
                f"--tensor-type {target.name}=q4_k"
            )
    return weights
