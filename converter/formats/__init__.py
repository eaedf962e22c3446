"""The containers that are written: GGUF, directories of safetensors, directories of PyTorch files."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from converter.errors import UsageError

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


def find_method(container: Format, name: str) -> str:
    """The method's name as a format spells it.

    Raises:
        UsageError: the format has no such method; names the nearest, and a format that has it.
    """
    try:
        return container.find_method(name)
    except UsageError as error:
        others = [other for other in FORMATS if name.lower() in find_format(other).methods]
        hint = f"; --format {others[0]} has it" if others else ""
        raise UsageError(f"{error}{hint}") from None
