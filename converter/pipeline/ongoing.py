"""Requests on their way side by side: one that fails, or is done early, leaves the others going."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from converter.errors import ConversionError
from converter.result import Result

#: What becomes of a request.
Outcome = Result | ConversionError

S = TypeVar("S")
T = TypeVar("T")


class Ongoing(Generic[S]):
    """The requests that have no outcome yet, all at the same stage.

    Args:
        stages: where each stands, by its number.
        settle: called with the number and outcome of one as soon as it has it.
    """

    def __init__(self, stages: Mapping[int, S], settle: Callable[[int, Outcome], None]) -> None:
        self._stages = stages
        self._settle = settle

    def each(self, step: Callable[[S], T | Result]) -> Ongoing[T]:
        """Take each to its next stage on its own.

        Args:
            step: gives the next stage, or the result of one that is done; a ConversionError is the request's outcome.
        """
        return self.together(lambda stages: (attempt(step, stage) for stage in stages))

    def together(self, step: Callable[[Sequence[S]], Iterable[T | Outcome]]) -> Ongoing[T]:
        """Take all to their next stage in one go.

        Args:
            step: gives for each, in order, the next stage or an outcome.
        """
        following: dict[int, T] = {}
        for number, reached in zip(self._stages, step(list(self._stages.values())), strict=True):
            if isinstance(reached, Result | ConversionError):
                self._settle(number, reached)
            else:
                following[number] = reached
        return Ongoing(following, self._settle)


def attempt(step: Callable[[S], T], stage: S) -> T | ConversionError:
    """What a step gives, or why it could not be taken."""
    try:
        return step(stage)
    except ConversionError as error:
        return error
