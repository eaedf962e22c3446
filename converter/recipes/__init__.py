"""A method's name → the type of each tensor."""

from converter.recipes.choose import ModelFacts, Overrides, choose_types, needs_importance
from converter.recipes.methods import METHODS, Method, find_method

__all__ = ["METHODS", "Method", "ModelFacts", "Overrides", "choose_types", "find_method", "needs_importance"]
