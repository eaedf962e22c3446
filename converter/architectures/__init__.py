"""Model families, found by being in ``families/``; what they are built of stands in ``parts/``.

``family`` says what a family answers, ``target`` what its tensors are, ``hyperparameters`` how config.json is read.
"""

from __future__ import annotations

import importlib
import pkgutil

from converter.architectures import families
from converter.architectures.class_names import find_family
from converter.architectures.family import FAMILIES, Family, check_all_used, in_transformers, model_types
from converter.architectures.target import Operation, Piece, RowMap, TargetTensor

for _module in pkgutil.walk_packages(families.__path__, f"{families.__name__}."):
    importlib.import_module(_module.name)

__all__ = [
    "FAMILIES",
    "Family",
    "Operation",
    "Piece",
    "RowMap",
    "TargetTensor",
    "check_all_used",
    "find_family",
    "in_transformers",
    "model_types",
]
