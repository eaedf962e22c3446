"""One tile's way: read its source rows, transform them, check them, encode them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.tensor import SourceTensor
from converter.errors import CheckpointError, ConversionError
from converter.plan import Plan, PlannedTensor, Tile
from converter.quants import QUANT_TYPES
from converter.quants.encoding import WeightTooLarge

if TYPE_CHECKING:
    from converter.architectures.target import Piece, TargetTensor

Element = TypeVar("Element", bound=np.generic)
Importance = Mapping[str, NDArray[np.float32]]

#: Scattered rows are read run by run where runs are at least this long, otherwise with the rows between them.
RUN_BYTES = 1 << 14


class NotFinite(ConversionError):
    """A tile holds NaN or infinity; the executor turns this into a message about the whole source tensor."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.source = source


def encode_tile(
    plan: Plan,
    tile: Tile,
    sources: Mapping[str, SourceTensor],
    importance: Importance = MappingProxyType({}),
    rows: Callable[[], NDArray[np.float32]] | None = None,
) -> tuple[NDArray[np.uint8], ...]:
    """The bytes of a tile: for each tensor that the container stores, an array (units, unit_bytes).

    Args:
        plan: the plan.
        tile: which rows of it.
        sources: source tensors by name.
        importance: by target tensor, float32 weights of its columns, shape (matrices, row_length); the rows of each
            matrix of a stack have their own.
        rows: gives what :func:`read_tile` gives for this tile, where several plans share it.

    Raises:
        NotFinite: a source weight is NaN or infinite.
        ConversionError: a weight is too large for the type; names the tensor and what to use instead.
    """
    planned = plan.tensors[tile.tensor]
    try:
        blocks = read_encoded(plan, tile, sources)
        if blocks is not None:
            return planned.encoding.split(planned.encoding.checked(blocks))
        values = read_tile(plan, tile, sources) if rows is None else rows()
        return encode_rows(planned, tile, values, importance.get(planned.target.name))
    except WeightTooLarge as error:
        raise ConversionError(
            f"{planned.target.name}: {error.count} weights or scales exceed float16's largest number 65504, on which "
            f"{planned.type} relies; use --method bf16 or f32"
        ) from None


def encode_rows(
    planned: PlannedTensor, tile: Tile, rows: NDArray[np.float32], weights: NDArray[np.float32] | None
) -> tuple[NDArray[np.uint8], ...]:
    """Encode a tile's rows, with the importance of their columns matrix by matrix of a stack."""
    if weights is None:
        return planned.encoding.encode(rows)
    height = planned.target.rows // len(weights)
    parts = []
    for matrix in range(tile.start // height, (tile.stop - 1) // height + 1):
        within = slice(max(matrix * height - tile.start, 0), (matrix + 1) * height - tile.start)
        parts.append(planned.encoding.encode(rows[within], weights[matrix]))
    return parts[0] if len(parts) == 1 else tuple(np.concatenate(stored) for stored in zip(*parts, strict=True))


def read_encoded(plan: Plan, tile: Tile, sources: Mapping[str, SourceTensor]) -> NDArray[np.uint8] | None:
    """A tile whose source already holds the very blocks it needs, shape (rows, row_bytes); None for all others."""
    planned = plan.tensors[tile.tensor]
    target, encoding = planned.target, planned.encoding
    if plan.load_dtype is not None or not encoding.takes_blocks or not target.pieces or len(target.shape) == 1:
        return None
    parts = []
    for piece, start, stop in overlapping(target, tile, sources):
        if piece.transposed or piece.operation is not None:
            return None
        source = sources[piece.source]
        if source.row_length != target.row_length or source.read_blocks(encoding.block_type, 0, 0) is None:
            return None

        def read(first: int, last: int, source: SourceTensor = source) -> NDArray[np.uint8]:
            blocks = source.read_blocks(encoding.block_type, first, last)
            assert blocks is not None
            return blocks

        rows = None if piece.rows is None else piece.rows.source_rows(start, stop)
        row_bytes = encoding.kind.row_bytes(target.row_length)
        parts.append(read(start, stop) if rows is None else read_selected(read, rows, row_bytes))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def read_tile(plan: Plan, tile: Tile, sources: Mapping[str, SourceTensor]) -> NDArray[np.float32]:
    """The rows of a tile as float32, transformed but not yet encoded, shape (rows, row_length)."""
    target = plan.tensors[tile.tensor].target
    if target.values is not None:
        return np.asarray(target.values, np.float32).reshape(-1, target.row_length)[tile.start : tile.stop]
    parts = [
        transformed(plan, piece, sources[piece.source], start, stop, target)
        for piece, start, stop in overlapping(target, tile, sources)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def overlapping(
    target: TargetTensor, tile: Tile, sources: Mapping[str, SourceTensor]
) -> Iterator[tuple[Piece, int, int]]:
    """The pieces that a tile touches, each with the run of its own rows that lies in the tile."""
    first = 0
    for piece in target.pieces:
        rows = piece_rows(piece, sources[piece.source], target)
        start, stop = max(tile.start, first), min(tile.stop, first + rows)
        if start < stop:
            yield piece, start - first, stop - first
        first += rows
    if first != target.rows:
        raise CheckpointError(f"{target.name}: its sources hold {first} rows, {target.rows} expected")


def piece_rows(piece: Piece, source: SourceTensor, target: TargetTensor) -> int:
    """Target rows that a piece makes."""
    if by_element(piece, source, target):
        elements = piece.rows.rows if piece.rows is not None else source.rows * source.row_length
        return elements // target.row_length
    if piece.rows is not None:
        return piece.rows.rows
    return source.row_length if piece.transposed else source.rows


def by_element(piece: Piece, source: SourceTensor, target: TargetTensor) -> bool:
    """Whether elements are taken in order, however many to a row: a vector on either side, or rows of other lengths."""
    if len(target.shape) == 1 or len(source.shape) < 2:
        return True
    return not piece.transposed and source.row_length != target.row_length


def transformed(
    plan: Plan, piece: Piece, source: SourceTensor, start: int, stop: int, target: TargetTensor
) -> NDArray[np.float32]:
    """Rows ``start`` to ``stop`` of a piece: read, checked, rounded to the load dtype, operated on."""
    if by_element(piece, source, target):
        values = read_vector(piece, source).reshape(-1, target.row_length)[start:stop]
    elif piece.transposed:
        values = read_transposed(piece, source, start, stop)
    elif piece.rows is None:
        values = source.read_rows(start, stop)
    else:
        values = read_selected(source.read_rows, piece.rows.source_rows(start, stop), 4 * source.row_length)
    if not all_finite(values):
        raise NotFinite(piece.source)
    if plan.load_dtype is not None:
        rounded = QUANT_TYPES[plan.load_dtype]
        values = rounded.dequantize(rounded.quantize(values))
        if not all_finite(values):
            raise ConversionError(
                f"{piece.source}: a weight exceeds the range of the requested dtype {plan.load_dtype}"
            )
    return values if piece.operation is None else piece.operation(values)


def read_vector(piece: Piece, source: SourceTensor) -> NDArray[np.float32]:
    """A piece taken element by element, those that its row map selects: shape (elements,)."""
    values = source.read_rows(0, source.rows).reshape(-1)
    return values if piece.rows is None else values[piece.rows.source_rows(0, piece.rows.rows)]


def read_transposed(piece: Piece, source: SourceTensor, start: int, stop: int) -> NDArray[np.float32]:
    """Columns of the source, or of a run of its rows, as rows of the target."""
    first, count = piece.within or (0, source.rows)
    if piece.rows is None:
        return np.ascontiguousarray(source.read_rows(first, first + count, slice(start, stop)).T)
    columns = piece.rows.source_rows(start, stop)
    low = int(columns.min())
    window = source.read_rows(first, first + count, slice(low, int(columns.max()) + 1))
    return np.ascontiguousarray(window[:, columns - low].T)


def read_selected(
    read: Callable[[int, int], NDArray[Element]], rows: NDArray[np.int64], row_bytes: int
) -> NDArray[Element]:
    """Scattered rows, in the order given, with few and large reads; ``read`` gives a run of them."""
    order = np.sort(rows)
    breaks = np.flatnonzero(np.diff(order) != 1) + 1
    runs = np.split(order, breaks)
    if len(rows) * row_bytes / len(runs) >= RUN_BYTES or len(runs) == 1:
        window = np.concatenate([read(int(run[0]), int(run[-1]) + 1) for run in runs])
        return window if np.array_equal(order, rows) else window[np.searchsorted(order, rows)]
    low = int(order[0])
    return read(low, int(order[-1]) + 1)[rows - low]


def all_finite(values: NDArray[np.float32]) -> bool:
    """Whether no value is NaN or infinite: maximum and minimum carry NaN along and show infinity, without a copy."""
    return values.size == 0 or bool(np.isfinite(values.max()) and np.isfinite(values.min()))


def describe_not_finite(source: SourceTensor) -> str:
    """The refusal's text: how many weights of a source tensor are NaN and how many infinite."""
    not_numbers = infinite = 0
    step = max(1, (1 << 20) // max(1, source.row_length))
    for start in range(0, source.rows, step):
        values = source.read_rows(start, min(start + step, source.rows))
        not_numbers += int(np.isnan(values).sum())
        infinite += int(np.isinf(values).sum())
    return (
        f"{source.name}: {not_numbers} NaN and {infinite} infinite weights of {source.rows * source.row_length}; "
        "the checkpoint is damaged, download or export it again"
    )
