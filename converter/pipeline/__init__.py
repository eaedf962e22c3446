"""The one way in for command line, batches, tests and users: a request becomes, stage by stage, a verified output.

    Request → Accepted → Located → Opened → Planned → Begun → Written → Verified → Result

Each stage is a frozen value that is made of the one before (:mod:`converter.pipeline.conversion` is the whole way).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converter.pipeline.collection import collect
    from converter.pipeline.conversion import convert, convert_together
    from converter.pipeline.existing_output import verify_output
    from converter.pipeline.known import known_result
    from converter.request import Request
    from converter.result import Progress, Result

__all__ = [
    "Progress",
    "Request",
    "Result",
    "collect",
    "convert",
    "convert_together",
    "known_result",
    "verify_output",
]

_MODULES = {
    "Progress": "converter.result",
    "Request": "converter.request",
    "Result": "converter.result",
    "collect": "converter.pipeline.collection",
    "convert": "converter.pipeline.conversion",
    "convert_together": "converter.pipeline.conversion",
    "known_result": "converter.pipeline.known",
    "verify_output": "converter.pipeline.existing_output",
}


def __getattr__(name: str) -> Any:
    # A stage is imported when it is needed: what is answered by the catalogue loads no kernels.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
