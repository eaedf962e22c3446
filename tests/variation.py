"""Variations of model families: what the modules of ``tests/families`` list and the matrix of families runs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Variation:
    """A small random model of a family.

    Attributes:
        name: unique, the family's name first.
        config: transformers' configuration class.
        arguments: what differs from the builder's small defaults.
        model: transformers' model class, or auto class.
        adjust: last changes to the model before it is saved.
        rewrite: changes to the saved directory, e.g. to the layout of an older release.
        seed: other random weights, for a model that would have to choose between near equals.
    """

    name: str
    config: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    model: str = "AutoModelForCausalLM"
    adjust: Callable[[Any], None] | None = None
    rewrite: Callable[[Path], None] | None = None
    seed: int = 0


def _modules() -> list[ModuleType]:
    modules = []
    for path in sorted((Path(__file__).parent / "families").glob("*.py")):
        if not path.name.startswith(("test_", "conftest")):
            spec = importlib.util.spec_from_file_location(f"families_{path.stem}", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            modules.append(module)
    return modules


MODULES = _modules()

#: Every variation by name, from all modules of ``tests/families``.
VARIATIONS = {variation.name: variation for module in MODULES for variation in getattr(module, "VARIATIONS", ())}

#: Variations whose bytes are compared with llama.cpp's two steps for every method.
COMPARED_IN_BYTES = [name for module in MODULES for name in getattr(module, "BYTES", ())]
