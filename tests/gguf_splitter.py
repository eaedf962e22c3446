"""A GGUF written again by gguf's own writer: in parts, or with further key-values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gguf import GGUFReader, GGUFValueType, GGUFWriter


def rewrite(
    whole: Path, target: Path, *, max_tensors: int = 0, pairs: Mapping[str, tuple[Any, GGUFValueType]] | None = None
) -> list[Path]:
    """Write ``target``, or with ``max_tensors`` its parts ``<stem>-00001-of-0000N.gguf`` and so on; returns them."""
    reader = GGUFReader(whole)
    writer = GGUFWriter(target, reader.get_field("general.architecture").contents(), split_max_tensors=max_tensors)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        element = field.types[-1] if field.types[0] is GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], element)
    for key, (value, kind) in (pairs or {}).items():
        writer.add_key_value(key, value, kind)
        if key == "general.alignment":
            writer.data_alignment = value
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(target.parent.glob(f"{target.stem}-*-of-*.gguf")) if max_tensors else [target]
