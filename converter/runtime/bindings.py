"""llama_cpp's ctypes bindings without the rest of its package, whose imports take longer than loading a vocabulary."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any


def llama_cpp_bindings() -> Any:
    """The module ``llama_cpp.llama_cpp``; a later ``import llama_cpp`` works as ever.

    Raises:
        ModuleNotFoundError: llama-cpp-python is not installed.
    """
    name = "llama_cpp"
    if name in sys.modules:
        return import_module(f"{name}.{name}")
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError("llama-cpp-python is not installed", name=name)
    sys.modules[name] = module_from_spec(spec)  # knows where its modules are; its own code does not run
    try:
        return import_module(f"{name}.{name}")
    finally:
        del sys.modules[name]
