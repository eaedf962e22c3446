"""The products that an adapter adds to the tensors of a GGUF: rows permuted, cut, stacked as the base's are.

A family says of each target tensor which source rows make it. Where a source is ``W + scale * B A``, what is selected
of its rows is selected of B's, what is transposed swaps the two, and sources below one another in one target get
matrices beside one another: ``[B1 0; 0 B2] [A1; A2]``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from converter.adapters.steps import LowRank, Matrix
from converter.architectures import Piece, TargetTensor
from converter.checkpoints import SourceTensor
from converter.errors import ArchitectureError

WITHOUT = ("position_embd.weight", "token_types.weight")
"""Tensors whose rows llama.cpp looks up without an adapter."""
EXPERTS = "_exps.weight"
"""End of the names of tensors that hold one matrix for each expert."""


@dataclass(frozen=True)
class Part:
    """What one product adds to one matrix of a target.

    Attributes:
        key: what tells whether two parts share their right matrix.
        rows: rows of the target's matrix, int64.
        left: (rows, r).
        right: (r, row length).
        scale: what their product is multiplied by.
    """

    key: tuple[int, ...]
    rows: np.ndarray[tuple[int], np.dtype[np.int64]]
    left: Matrix
    right: Matrix
    scale: float


def products(
    target: TargetTensor, sources: Mapping[str, SourceTensor], steps: Mapping[str, Sequence[LowRank]], alpha: float
) -> tuple[Matrix, Matrix]:
    """A and B of a target tensor, whose product counts ``alpha`` / r.

    Args:
        target: the tensor; a matrix, or a stack of experts'.
        sources: the base's tensors.
        steps: the products, by source tensor.
        alpha: the one strength of the file; what a product's own differs by goes into B.

    Returns:
        A (r, row length) and B (rows, r), or of experts (experts, r, row length) and (experts, rows, r), zeros where
        an expert's rank is smaller.

    Raises:
        ArchitectureError: what is done to the source is not linear, or llama.cpp adds no product to such a tensor.
    """
    stacked = len(target.shape) == 3
    if len(target.shape) > 3 or stacked is not target.name.endswith(EXPERTS) or target.name in WITHOUT:
        raise ArchitectureError(
            f"{target.name}: llama.cpp adds no adapter to such a tensor; merge the adapter instead (--adapter)"
        )
    height = target.shape[1] if stacked else target.rows
    matrices: list[dict[tuple[int, ...], tuple[Matrix, Matrix, float]]] = [{} for _ in range(target.rows // height)]
    for first, part in parts_of(target, sources, steps):
        rows = part.rows + first
        for number in np.unique(rows // height):
            chosen, empty = rows // height == number, np.zeros((height, len(part.right)), np.float32)
            _, left, _ = matrices[number].setdefault(part.key, (part.right, empty, part.scale))
            left[rows[chosen] - number * height] = part.left[chosen]
    rank = max(sum(len(right) for right, _, _ in matrix.values()) for matrix in matrices)
    a = np.zeros((len(matrices), rank, target.row_length), np.float32)
    b = np.zeros((len(matrices), height, rank), np.float32)
    for number, matrix in enumerate(matrices):
        begin = 0
        for right, left, scale in matrix.values():
            end, strength = begin + len(right), scale * rank / alpha
            a[number, begin:end] = right
            # The usual strength leaves B's bits as they are.
            b[number, :, begin:end] = left if math.isclose(strength, 1) else left * np.float32(strength)
            begin = end
    return (a, b) if stacked else (a[0], b[0])


def parts_of(
    target: TargetTensor, sources: Mapping[str, SourceTensor], steps: Mapping[str, Sequence[LowRank]]
) -> Iterator[tuple[int, Part]]:
    """What an adapter adds to each piece of a target, with the piece's first row in it."""
    first = 0
    for piece in target.pieces:
        source = sources[piece.source]
        for step in steps.get(piece.source, ()):
            part = (transposed_part if piece.transposed else straight_part)(target, source, piece, step)
            if len(part.rows):
                yield first, part
        first += piece.rows.rows if piece.rows else source.row_length if piece.transposed else source.rows


def straight_part(target: TargetTensor, source: SourceTensor, piece: Piece, step: LowRank) -> Part:
    """One product, where a piece selects rows of the source."""
    if source.row_length != target.row_length:
        raise ArchitectureError(
            f"{target.name}: its rows are not those of {piece.source}; merge the adapter instead (--adapter)"
        )
    rows = np.arange(source.rows) if piece.rows is None else piece.rows.source_rows(0, piece.rows.rows)
    inside = np.flatnonzero((rows >= step.first) & (rows < step.first + step.left.count))
    left = step.left.whole()[rows[inside] - step.first]
    right, scale, columns = step.kept(step.right), step.scale * operand(target, piece), None
    if piece.operation is not None and (columns := piece.operation.columns) is not None:
        right = piece.operation(right)
    return Part((id(step), hash(columns)), inside, left, right, scale)


def transposed_part(target: TargetTensor, source: SourceTensor, piece: Piece, step: LowRank) -> Part:
    """One product, where a piece selects columns of the source, in a run of its rows."""
    begin, count = piece.within or (0, source.rows)
    columns = np.arange(source.row_length) if piece.rows is None else piece.rows.source_rows(0, piece.rows.rows)
    low, high = max(begin, step.first), min(begin + count, step.first + step.left.count)
    if low >= high:
        columns = columns[:0]
    right = np.zeros((len(step.kept(step.right)), count), np.float32)
    if len(columns):
        right[:, low - begin : high - begin] = step.left.read(low - step.first, high - step.first).T
    left = step.kept(step.right).T[columns]
    return Part((id(step), begin), np.arange(len(columns)), left, right, step.scale * operand(target, piece))


def operand(target: TargetTensor, piece: Piece) -> float:
    """What a piece multiplies its source by."""
    if piece.operation is None or piece.operation.columns is not None:
        return 1.0
    if piece.operation.name != "multiply":
        raise ArchitectureError(
            f"{target.name}: is not linear in {piece.source} ({piece.operation.name}); merge the adapter instead "
            "(--adapter)"
        )
    return piece.operation.operand
