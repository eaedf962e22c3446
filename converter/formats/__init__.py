"""The containers that are written: GGUF, directories of safetensors, directories of PyTorch files."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from converter.errors import UsageError
from converter.request import FORMATS

if TYPE_CHECKING:
    from converter.formats.layout import Format

__all__ = ["FORMATS", "find_format", "find_method"]


def find_format(name: str) -> Format:
    """The format of that name, one of ``FORMATS``: the one that the module of its name defines."""
    from converter.formats.layout import Format

    for kind in vars(importlib.import_module(f"{__name__}.{name}")).values():
        if isinstance(kind, type) and issubclass(kind, Format) and getattr(kind, "name", "") == name:
            return kind()
    raise LookupError(f"the module of the format {name} defines none of that name")


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
