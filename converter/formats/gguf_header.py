"""The head of a GGUF file: header, key-values, tensor infos, and where the data section starts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import gguf
import numpy as np

from converter.metadata import KeyValue
from converter.plan import PlannedTensor
from converter.quants import QUANT_TYPES

#: Alignment of each tensor's data, in bytes (``general.alignment``'s default).
ALIGNMENT = 32


def aligned(nbytes: int) -> int:
    return math.ceil(nbytes / ALIGNMENT) * ALIGNMENT


def write_header(path: Path, arch: str | None, metadata: Iterable[KeyValue], tensors: Iterable[PlannedTensor]) -> int:
    """Write everything that comes before the tensors' data, replacing the file.

    Args:
        path: the file, created or truncated.
        arch: ``general.architecture``; None leaves it out, as in all parts of a model but the first.
        metadata: all other key-values, in order.
        tensors: those of this file, in order.

    Returns:
        Position of the data section, in bytes.
    """
    writer = gguf.GGUFWriter(path=None, arch=arch or "")
    if arch is None:
        writer.kv_data[0].clear()
    for pair in metadata:
        writer.add_key_value(pair.key, pair.value, pair.type, pair.element)
    for planned in tensors:
        kind = gguf.GGMLQuantizationType(QUANT_TYPES[planned.type].ggml_type)
        # A float dtype beside raw_dtype makes the writer take the shape as elements, not as bytes.
        writer.add_tensor_info(
            planned.target.name, planned.target.shape, np.dtype(np.float32), planned.nbytes, raw_dtype=kind
        )
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    return aligned(path.stat().st_size)
