"""Both sides of a question to a child process: the reason why something cannot be done comes back in one line."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from converter.errors import VerificationError
from converter.runtime import IsolatedFailure, run_isolated


def ask(task: str, **request: Any) -> dict[str, Any]:
    """Call a function that is ``answering`` in a child process.

    Args:
        task: ``module:function`` within this package.
        request: keyword arguments, JSON-serialisable.

    Returns:
        What the function returned.

    Raises:
        VerificationError: the function's own, or why the child ended.
    """
    name = f"{__package__}.{task}"
    try:
        answer: dict[str, Any] = run_isolated(name, **request)
    except IsolatedFailure as failure:
        raise VerificationError(f"the process {str(failure).removeprefix(name).strip()}") from failure
    if "failure" in answer:
        raise VerificationError(answer["failure"])
    return answer


def answering(function: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Let a function in a child answer ``{"failure": reason}`` where it would raise a VerificationError."""

    @functools.wraps(function)
    def answer(**request: Any) -> dict[str, Any]:
        try:
            return function(**request)
        except VerificationError as error:
            return {"failure": " ".join(str(error).split())}

    return answer
