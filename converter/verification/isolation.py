"""Both sides of a question to a child process: the reason why something cannot be done comes back in one line."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from converter.errors import EnvironmentFailure, VerificationError
from converter.runtime import IsolatedFailure, run_isolated
from converter.runtime.environment import environment_failure, environment_of

#: Names of reasons in an answer, and what they are raised as.
FAILURE, ENVIRONMENT = "failure", "environment"


def ask(task: str, **request: Any) -> dict[str, Any]:
    """Call a function that is ``answering`` in a child process.

    Args:
        task: ``module:function`` within this package.
        request: keyword arguments, JSON-serialisable.

    Returns:
        What the function returned.

    Raises:
        VerificationError: the function's own, or how what it was given ended the child.
        EnvironmentFailure: the child failed for a reason that has nothing to do with what it was given.
    """
    try:
        answer: dict[str, Any] = run_isolated(f"{__package__}.{task}", **request)
    except IsolatedFailure as failure:
        raise environment_failure(failure) or VerificationError(f"the process {failure.how}") from failure
    if ENVIRONMENT in answer:
        raise EnvironmentFailure(answer[ENVIRONMENT])
    if FAILURE in answer:
        raise VerificationError(answer[FAILURE])
    return answer


def answering(function: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Let a function in a child answer with the reason where it would raise.

    ``{"failure": reason}`` for a VerificationError, ``{"environment": reason}`` for an EnvironmentFailure and for what
    Python itself raises where memory, a package or the disk is missing.
    """

    @functools.wraps(function)
    def answer(**request: Any) -> dict[str, Any]:
        try:
            return function(**request)
        except VerificationError as error:
            return {FAILURE: " ".join(str(error).split())}
        except EnvironmentFailure as failure:
            return {ENVIRONMENT: str(failure)}
        except Exception as error:
            if (reason := environment_of(error)) is None:
                raise
            return {ENVIRONMENT: str(reason)}

    return answer
