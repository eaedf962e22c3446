"""Turn a language-model checkpoint into a small, fast, verified file in one command and one pass.

``converter.convert(model, method, output)`` does what the command line does.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converter.errors import ConversionError
    from converter.pipeline import convert, convert_together
    from converter.request import Request
    from converter.result import Progress, Result

__version__ = "0.1.0"
__all__ = ["ConversionError", "Progress", "Request", "Result", "convert", "convert_together"]

_MODULES = {
    "ConversionError": "converter.errors",
    "Progress": "converter.result",
    "Request": "converter.request",
    "Result": "converter.result",
    "convert": "converter.pipeline",
    "convert_together": "converter.pipeline",
}


def __getattr__(name: str) -> Any:
    # Importing the package stays instant: the pipeline comes with its first use.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
