"""A GGUF file with nothing but a vocabulary, for llama.cpp to load with ``vocab_only``.

Layout (gguf.md of ggml, little-endian): magic, version, number of tensors, number of keys, then for each key its name,
the type of its value, the value; strings and arrays carry their length as 64 bits. Written here because gguf's writer
takes one Python call for each token and merge, several times as long as llama.cpp takes to read them.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from gguf import GGUF_MAGIC, GGUF_VERSION, GGUFValueType, Keys

from converter.gguf import key_values
from converter.gguf.key_values import KeyValue
from converter.vocabs.vocabulary import Vocabulary

_SCALARS = {GGUFValueType.UINT32: "<I", GGUFValueType.FLOAT32: "<f", GGUFValueType.BOOL: "<?"}
_ARRAYS = {GGUFValueType.FLOAT32: "<f4", GGUFValueType.INT32: "<i4", GGUFValueType.UINT8: "u1"}


def write_vocabulary(path: Path, vocabulary: Vocabulary, name: str = "") -> None:
    """Write the vocabulary's keys to a new file. No tensors; the architecture is a placeholder."""
    named = [key_values.string(Keys.General.NAME, name)] if name else []
    pairs = [key_values.string(Keys.General.ARCHITECTURE, "llama"), *named, *vocabulary.key_values()]
    with path.open("wb") as file:
        file.write(struct.pack("<IIQQ", GGUF_MAGIC, GGUF_VERSION, 0, len(pairs)))
        file.writelines(_packed(pair) for pair in pairs)


def _packed(pair: KeyValue) -> bytes:
    head = _strings([pair.key]) + struct.pack("<I", pair.type)
    if pair.type == GGUFValueType.STRING:
        return head + _strings([pair.value])
    if pair.type != GGUFValueType.ARRAY:
        return head + struct.pack(_SCALARS[pair.type], pair.value)
    assert pair.element is not None
    head += struct.pack("<IQ", pair.element, len(pair.value))
    if pair.element == GGUFValueType.STRING:
        return head + _strings(pair.value)
    return head + np.asarray(pair.value, dtype=_ARRAYS[pair.element]).tobytes()


def _strings(texts: list[str]) -> bytes:
    parts: list[bytes] = []
    for text in texts:
        data = text.encode()
        parts += (len(data).to_bytes(8, "little"), data)
    return b"".join(parts)
