"""Which importance weights each tensor is quantized with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from converter.errors import RecipeError
from converter.quants import QUANT_TYPES, QuantType
from converter.recipes import rules
from converter.recipes.methods import Method
from converter.recipes.overrides import Overrides

if TYPE_CHECKING:
    from converter.architectures.target import TargetTensor
    from converter.imatrix import ImportanceMatrix

#: Tensors that a message names at most.
NAMED = 5


def needs_importance(method: Method, name: str, type_name: str) -> bool:
    """Whether a tensor of that type is useless without importance weights."""
    if name in (*rules.EMBEDDINGS, "output.weight"):
        return False
    return type_name in rules.NEED_IMPORTANCE | rules.NEED_IMPORTANCE_IN.get(method.name, frozenset())


@dataclass(frozen=True)
class ColumnWeights:
    """Importance weights as the quantizers take them.

    Attributes:
        by_tensor: by tensor name, float32 of shape (matrices, row_length).
        warnings: what the user should know, one sentence each.
    """

    by_tensor: dict[str, NDArray[np.float32]]
    warnings: tuple[str, ...] = ()


def column_weights(
    method: Method,
    targets: Sequence[TargetTensor],
    types: Sequence[str],
    matrix: ImportanceMatrix | None,
    overrides: Overrides,
    originals: Mapping[str, str],
) -> ColumnWeights:
    """The weights of each quantized tensor that has some.

    Args:
        method: what the user asked for.
        targets: all tensors.
        types: type of each.
        matrix: the importance matrix, if there is one.
        overrides: which tensors' weights are used.
        originals: the matrix's names of renamed tensors.

    Raises:
        RecipeError: a tensor that is useless without weights has none; it is named.
        ImatrixError: the matrix was made for another model, or holds nothing but zeros for a tensor; it is named.
    """
    from converter.imatrix import ImatrixError

    weights: dict[str, NDArray[np.float32]] = {}
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
    if matrix is None:
        return ColumnWeights(weights)
    return _filled(weights, dict(zip((target.name for target in targets), types, strict=True)), matrix, originals)


def _filled(
    weights: dict[str, NDArray[np.float32]],
    types: Mapping[str, str],
    matrix: ImportanceMatrix,
    originals: Mapping[str, str],
) -> ColumnWeights:
    """The weights of a matrix, neutral where it holds no importance; what lacks is told or refused."""
    from converter.imatrix import ImatrixError

    nothing, lacking = [], []
    for tensor, importance in weights.items():
        kind, name = QUANT_TYPES[types[tensor]], originals.get(tensor, tensor)
        if kind.ignores_importance:
            continue
        weights[tensor], without = neutral(importance, kind)
        if without.all():
            nothing.append(name)
        counts = matrix.entries[name].counts
        if len(counts) == len(without):
            without = without | (counts == 0)[:, np.newaxis]  # an expert without data has ones already
        if without.any():
            lacking.append(_described(name, without, importance.shape[1]))
    if nothing:
        raise ImatrixError(
            f"{matrix.origin}: holds nothing but zeros for {_first(nothing)}; make it again, or pass --exclude-weights "
            "with each name"
        )
    warning = f"{matrix.origin}: holds no importance for {_first(lacking)}; all weights count the same there"
    return ColumnWeights(weights, (warning,) if lacking else ())


def neutral(importance: NDArray[np.float32], kind: QuantType) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Importance with ones in the runs that have none, which ggml would store as zeros whatever their weights.

    Args:
        importance: float32 (matrices, row_length).
        kind: the type; ``kind.run`` columns are looked at together.

    Returns:
        The importance, and for each run (matrices, runs) whether it had none.
    """
    matrices, row_length = importance.shape
    if row_length % kind.run:  # such rows are refused elsewhere
        return importance, np.zeros((matrices, 1), np.bool_)
    runs = importance.reshape(matrices, -1, kind.run)
    without: NDArray[np.bool_] = np.all(runs < np.finfo(np.float32).tiny, axis=2)
    if not without.any():
        return importance, without
    return np.where(without[..., None], np.float32(1), runs).reshape(importance.shape), without


def _first(items: Sequence[str]) -> str:
    return ", ".join(items[:NAMED]) + (f" and {len(items) - NAMED} more" if items[NAMED:] else "")


def _described(name: str, without: NDArray[np.bool_], row_length: int) -> str:
    """Which columns of a tensor, or which matrices of a stack, have no importance."""
    whole = without.all(axis=1)
    columns = int(without[~whole].sum()) * row_length // without.shape[1]
    if len(without) == 1:
        return f"{columns} of {row_length} columns of {name}"
    unit = "experts" if "_exps" in name else "matrices"
    parts = [f"{whole.sum()} of {without.shape[0]} {unit}"] if whole.any() else []
    parts += [f"{columns} of {without.shape[0] * row_length} columns"] if columns else []
    return f"{' and '.join(parts)} of {name}"
