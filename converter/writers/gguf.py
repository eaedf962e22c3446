"""The GGUF container: header, key-values, tensor infos, and where the data section starts."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from converter.plan import Plan, aligned
from converter.quants import QUANT_TYPES


def write_header(path: Path, arch: str, plan: Plan) -> int:
    """Write everything that comes before the tensors' data, replacing the file.

    Args:
        path: the file, created or truncated.
        arch: ``general.architecture``.
        plan: key-values and tensors.

    Returns:
        Position of the data section, in bytes.
    """
    writer = gguf.GGUFWriter(path=None, arch=arch)
    for pair in plan.metadata:
        writer.add_key_value(pair.key, pair.value, pair.type, pair.element)
    for planned in plan.tensors:
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
