"""GGUF key-values as data: what the rooms that know a model hand to the one that writes the file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gguf import GGUFValueType

from converter.errors import ConversionError

#: The largest finite number in float32.
FLOAT32_LARGEST = float.fromhex("0x1.fffffep+127")


@dataclass(frozen=True)
class KeyValue:
    """One key of a GGUF header.

    Attributes:
        key: full key, e.g. ``llama.block_count``.
        value: a number, a bool, a str, or a list of those (strings may be given as UTF-8 bytes).
        type: GGUF type of the value; ``ARRAY`` for lists.
        element: GGUF type of an array's elements; None for scalars.
    """

    key: str
    value: Any
    type: GGUFValueType
    element: GGUFValueType | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the four; a vocabulary's arrays are long, and shared by all plans of a model."""
        content = [self.key, self.value, self.type, self.element]
        return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()


def uint32(key: str, value: int) -> KeyValue:
    """Raises ConversionError for a number that uint32 does not hold, which only sizes that nobody has lead to."""
    if not 0 <= value < 2**32:
        raise ConversionError(f"{key}: would be {int(value)}, which uint32 does not hold; is config.json right?")
    return KeyValue(key, int(value), GGUFValueType.UINT32)


def float32(key: str, value: float) -> KeyValue:
    """Raises ConversionError for a number that float32 does not hold."""
    if not abs(value) <= FLOAT32_LARGEST:
        raise ConversionError(f"{key}: would be {value}, which float32 does not hold; is config.json right?")
    return KeyValue(key, float(value), GGUFValueType.FLOAT32)


def boolean(key: str, value: bool) -> KeyValue:
    return KeyValue(key, bool(value), GGUFValueType.BOOL)


def string(key: str, value: str) -> KeyValue:
    return KeyValue(key, value, GGUFValueType.STRING)


def array(key: str, values: list[Any], element: GGUFValueType) -> KeyValue:
    return KeyValue(key, values, GGUFValueType.ARRAY, element)
