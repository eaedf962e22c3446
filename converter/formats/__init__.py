"""The containers that are written: GGUF, directories of safetensors, directories of PyTorch files."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converter.formats.layout import Format

#: Name of each format, and where its class is.
FORMATS = {
    "gguf": "converter.formats.gguf:Gguf",
    "safetensors": "converter.formats.safetensors:Safetensors",
    "pytorch": "converter.formats.pytorch:PyTorch",
}


def find_format(name: str) -> Format:
    """The format of that name, a key of ``FORMATS``."""
    module, _, attribute = FORMATS[name].partition(":")
    found: Format = getattr(importlib.import_module(module), attribute)()
    return found
