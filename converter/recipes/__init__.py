"""A method's name → the type of each tensor, and the importance weights it is quantized with."""

from converter.recipes.choose import ModelFacts, choose_types
from converter.recipes.methods import METHODS, Method, find_method
from converter.recipes.overrides import Overrides, prune
from converter.recipes.weights import column_weights, needs_importance

__all__ = [
    "METHODS",
    "Method",
    "ModelFacts",
    "Overrides",
    "choose_types",
    "column_weights",
    "find_method",
    "needs_importance",
    "prune",
]
