"""Turn a language-model checkpoint into a small, fast, verified file in one command and one pass.

``converter.convert(model, method, output)`` does what the command line does.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converter.pipeline import Progress, Result, convert

__version__ = "0.1.0"
__all__ = ["Progress", "Result", "convert"]


def __getattr__(name: str) -> Any:
    # Importing the package stays instant: the pipeline comes with its first use.
    if name in __all__:
        from converter import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
