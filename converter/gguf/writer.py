"""The head of a GGUF file: key-values, tensor infos, and where the data section starts.

Layout (``docs/gguf.md`` of ggml, little-endian): magic, version, numbers of tensors and key-values; for each key-value
its key, type and value; for each tensor its name, sizes (the row's length first), type and offset. Strings and arrays
carry their length as 64 bits. Packed here because gguf's writer takes a Python call for each token and merge.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from gguf import GGUFValueType

from converter.gguf.key_values import KeyValue, string
from converter.gguf.reader import TensorInfo

VERSION = 3

#: Alignment of each tensor's data, in bytes (``general.alignment``'s default).
ALIGNMENT = 32

_NUMBERS = {
    GGUFValueType.UINT8: "u1",
    GGUFValueType.INT8: "i1",
    GGUFValueType.UINT16: "<u2",
    GGUFValueType.INT16: "<i2",
    GGUFValueType.UINT32: "<u4",
    GGUFValueType.INT32: "<i4",
    GGUFValueType.FLOAT32: "<f4",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "<u8",
    GGUFValueType.INT64: "<i8",
    GGUFValueType.FLOAT64: "<f8",
}


def aligned(nbytes: int, alignment: int = ALIGNMENT) -> int:
    return math.ceil(nbytes / alignment) * alignment


def write_header(path: Path, arch: str | None, metadata: Iterable[KeyValue], infos: Sequence[TensorInfo]) -> int:
    """Write everything that comes before the tensors' data, replacing the file.

    Args:
        path: the file, created or truncated.
        arch: ``general.architecture``; None leaves it out, as in all parts of a model but the first.
        metadata: all other key-values, in order; of a key given twice the last value counts.
        infos: of this file's tensors, in order.

    Returns:
        Position of the data section, in bytes.
    """
    first = [] if arch is None else [string("general.architecture", arch)]
    pairs = {pair.key: pair for pair in (*first, *metadata)}
    head = pack_header([pack_pair(pair) for pair in pairs.values()], infos)
    path.write_bytes(head)
    return len(head)


def pack_header(pairs: Sequence[bytes], infos: Sequence[TensorInfo], alignment: int = ALIGNMENT) -> bytes:
    """A whole header, padded to where the data begins.

    Args:
        pairs: packed key-values.
        infos: of all tensors.
        alignment: of the data section, in bytes.
    """
    parts = [struct.pack("<4sIQQ", b"GGUF", VERSION, len(infos), len(pairs)), *pairs]
    for info in infos:
        sizes = struct.pack(f"<I{len(info.shape)}Q", len(info.shape), *reversed(info.shape))
        parts += [pack_string(info.name), sizes, struct.pack("<IQ", info.ggml_type, info.offset)]
    head = b"".join(parts)
    return head.ljust(aligned(len(head), alignment), b"\0")


def pack_pair(pair: KeyValue) -> bytes:
    """A key-value's bytes; a list that does not say what its elements are is of its first one's type."""
    head = pack_string(pair.key) + struct.pack("<I", pair.type)
    if pair.type is not GGUFValueType.ARRAY:
        return head + pack_values([pair.value], pair.type)
    element = pair.element if pair.element is not None else GGUFValueType.get_type(pair.value[0])
    return head + struct.pack("<IQ", element, len(pair.value)) + pack_values(pair.value, element)


def pack_values(values: Sequence[object] | bytes, kind: GGUFValueType) -> bytes:
    """Values of one type, one after the other; numbers of one byte may be given as bytes."""
    if isinstance(values, bytes):
        return values
    if kind is GGUFValueType.STRING:
        return b"".join(map(pack_string, values))  # type: ignore[arg-type]
    return np.asarray(values, _NUMBERS[kind]).tobytes()


def pack_string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return len(data).to_bytes(8, "little") + data
