"""Conversions from end to end: checkpoint → family → plan → output → verification."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.errors import ConversionError
from converter.request import Request
from converter.result import Progress, Result

if TYPE_CHECKING:
    from converter.conversion import Conversion

__all__ = ["Progress", "Request", "Result", "convert", "convert_together"]

Outcome = Result | ConversionError


def convert(
    model: str | Path,
    method: str,
    output: str | Path | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
    **choices: Any,
) -> Result:
    """Convert a checkpoint to a verified output.

    Args:
        model: directory of a Hugging Face checkpoint, a GGUF file, a Hub id, or a URL.
        method: a name of ``converter.recipes.METHODS``.
        output: the file or directory to write; by default a name made of both here.
        progress: called with each step, in the calling thread.
        choices: any other attribute of :class:`converter.request.Request`.

    Returns:
        What was made. An output that fails verification is kept as ``<output>.rejected`` and raises.

    Raises:
        ConversionError: one line that says what is wrong and what to do.
    """
    (outcome,) = convert_together([Request(model, method, output, **choices)], progress=progress)
    if isinstance(outcome, ConversionError):
        raise outcome
    return outcome


def convert_together(
    requests: Sequence[Request],
    *,
    progress: Callable[[Progress], None] | None = None,
    finished: Callable[[int, Outcome], None] | None = None,
) -> list[Outcome]:
    """Convert one model in several ways, each of its weights read once for all of them.

    Args:
        requests: at least one; ``model``, ``tokenizer``, ``adapters`` and ``stream`` are the same in all.
        progress: called with each step, in the calling thread.
        finished: called with a request's number and outcome as soon as it is known, in the calling thread.

    Returns:
        For each request what was made, or why it could not be: one that fails doesn't keep the others from being done.
    """
    from converter.together import Together

    tell = progress or (lambda _: None)
    outcomes: dict[int, Outcome] = {}

    def settle(numbers: Iterable[int], outcome: Outcome) -> None:
        for number in numbers:
            outcomes[number] = outcome
            if finished is not None:
                finished(number, outcome)

    def still_going(step: Callable[[int], None]) -> None:
        """Take a step with each request that has no outcome yet."""
        for number in range(len(requests)):
            if number not in outcomes:
                try:
                    step(number)
                except ConversionError as error:
                    if number in conversions:
                        conversions[number].abandon(error)
                    settle([number], error)

    conversions: dict[int, Conversion] = {}
    with ExitStack() as stack:
        run = Together(requests, conversions, stack, tell)
        still_going(run.check)
        still_going(run.locate)
        still_going(lambda number: settle([number], known) if (known := run.known(number)) else None)
        still_going(run.prepare)
        still_going(lambda number: settle([number], run.planned(number)) if requests[number].dry_run else None)
        still_going(run.begin)
        for group in run.groups(number for number in range(len(requests)) if number not in outcomes):
            try:
                run.write(group)
            except ConversionError as error:
                for number in group:
                    conversions[number].abandon(error)
                settle(group, error)
        still_going(run.written)
        run.verify([number for number in range(len(requests)) if number not in outcomes])
        still_going(lambda number: settle([number], run.complete(number)))
    return [outcomes[number] for number in range(len(requests))]
