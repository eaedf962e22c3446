"""The current format: a GGUF of ``general.type`` ``imatrix`` with two float32 tensors for each tensor of the model.

``<name>.in_sum2`` (counts, columns) holds sums of squared activations, ``<name>.counts`` (counts, 1) how many rows of
activations went into them. Keys and layout: ``save_imatrix`` of llama.cpp's ``tools/imatrix``.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from converter.imatrix.matrix import Entry, ImatrixError, ImportanceMatrix, check_name, checked
from converter.sources.source_file import quoted

SUMS, COUNTS = ".in_sum2", ".counts"
RUN = "imatrix.run"
"""Key of an unfinished file only: digest of the run that it belongs to."""


class _Writer(gguf.GGUFWriter):  # type: ignore[misc]
    def add_architecture(self) -> None:
        """An importance matrix has none."""


class _Reader(gguf.GGUFReader):  # type: ignore[misc]
    """gguf's reader, which takes what lies beyond the end of the file for empty, and an array's length for true."""

    def _get(self, offset: int, dtype: Any, count: int = 1, *order: Any, **more: Any) -> Any:
        end = int(offset) + np.dtype(dtype).itemsize * int(count)
        if end > len(self.data):
            raise ValueError(f"the header reaches to byte {end} of {len(self.data)}")
        return super()._get(offset, dtype, count, *order, **more)


def write_gguf(path: Path, matrix: ImportanceMatrix, run: str = "") -> None:
    """Write the matrix; ``run`` marks an unfinished one."""
    writer = _Writer(path, "")
    writer.add_type(gguf.GGUFType.IMATRIX)
    # The key must be there, and a GGUF array cannot be empty.
    writer.add_array(gguf.Keys.IMatrix.DATASETS, matrix.datasets or ("",))
    writer.add_uint32(gguf.Keys.IMatrix.CHUNK_COUNT, matrix.chunk_count)
    writer.add_uint32(gguf.Keys.IMatrix.CHUNK_SIZE, matrix.chunk_size)
    if run:
        writer.add_string(RUN, run)
    for name, entry in sorted(matrix.entries.items()):
        counts = entry.counts.astype(np.float32)
        alone = len(counts) == 1  # llama.cpp leaves trailing dimensions of one out
        writer.add_tensor(name + SUMS, entry.sums[0] if alone else entry.sums)
        writer.add_tensor(name + COUNTS, counts if alone else counts[:, None])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf(path: Path) -> tuple[ImportanceMatrix, str]:
    """Read a matrix and, of an unfinished one, its run's digest; see :func:`converter.imatrix.read_imatrix`."""
    try:
        reader = _Reader(path)
        keys = {name: field.contents() for name, field in reader.fields.items()}
    except (ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise ImatrixError(f"{path}: damaged or cut short: {' '.join(str(error).split())}") from None
    pairs: dict[str, dict[str, Any]] = defaultdict(dict)
    for tensor in reader.tensors:
        for suffix in (SUMS, COUNTS):
            if tensor.name.endswith(suffix):
                name = tensor.name.removesuffix(suffix)
                check_name(name, str(path))
                pairs[name][suffix] = tensor
    if not pairs:
        kind = keys.get("general.type")
        raise ImatrixError(
            f"{path}: not an importance matrix: it has no tensor named *{SUMS}, and general.type is {quoted(kind)}"
        )
    entries = {name: _entry(name, pair, path) for name, pair in pairs.items()}
    datasets = keys.get(gguf.Keys.IMatrix.DATASETS)
    if not isinstance(datasets, list) or not all(isinstance(dataset, str) for dataset in datasets):
        raise ImatrixError(f"{path}: {gguf.Keys.IMatrix.DATASETS} is missing or no list of texts; make it again")
    matrix = ImportanceMatrix(
        entries,
        _number(keys, gguf.Keys.IMatrix.CHUNK_SIZE, 1, path),
        _number(keys, gguf.Keys.IMatrix.CHUNK_COUNT, 0, path),
        tuple(filter(None, datasets)),
        str(path),
    )
    return matrix, str(keys.get(RUN, ""))


def _entry(name: str, pair: dict[str, Any], path: Path) -> Entry:
    arrays: list[NDArray[np.float32]] = []
    for suffix in (SUMS, COUNTS):
        if suffix not in pair:
            raise ImatrixError(f"{path}: {name}{suffix} is missing; make the file again")
        kind = pair[suffix].tensor_type
        if kind != gguf.GGMLQuantizationType.F32:
            raise ImatrixError(f"{path}: {name}{suffix} is of type {kind.name}, expected F32")
        arrays.append(np.array(pair[suffix].data, np.float32).reshape(-1))
    sums, counts = arrays
    if not (np.abs(counts) < 2**53).all():
        raise ImatrixError(f"{path}: a count of {name} is not a number of rows; make the file again")
    return checked(sums, np.rint(counts).astype(np.int64), name, str(path))


def _number(keys: dict[str, Any], key: str, least: int, path: Path) -> int:
    value = keys.get(key)
    if not isinstance(value, int) or not least <= value < 2**32:
        raise ImatrixError(
            f"{path}: {key} is {quoted(value)}, expected a number of at least {least}; make the file again"
        )
    return value
