"""Model families: one module each, found by being in this package."""

from __future__ import annotations

import importlib
import pkgutil

from converter.architectures.family import FAMILIES, Family, check_all_used, find_family
from converter.architectures.target import Operation, Piece, RowMap, TargetTensor

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["FAMILIES", "Family", "Operation", "Piece", "RowMap", "TargetTensor", "check_all_used", "find_family"]
