"""A method's name → the type of each tensor, and the importance weights it is quantized with."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converter.recipes.choose import ModelFacts, choose_types
    from converter.recipes.methods import METHODS, Method, find_method
    from converter.recipes.overrides import Overrides, prune
    from converter.recipes.weights import ColumnWeights, column_weights, needs_importance

__all__ = [
    "METHODS",
    "ColumnWeights",
    "Method",
    "ModelFacts",
    "Overrides",
    "choose_types",
    "column_weights",
    "find_method",
    "needs_importance",
    "prune",
]

_MODULES = {
    "choose": ("ModelFacts", "choose_types"),
    "methods": ("METHODS", "Method", "find_method"),
    "overrides": ("Overrides", "prune"),
    "weights": ("ColumnWeights", "column_weights", "needs_importance"),
}


def __getattr__(name: str) -> Any:
    # What a user may decide is declared here, and the command line's help shows it without importing the rest.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
