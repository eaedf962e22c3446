"""The process that converts one source of a batch: how it is started, and the function that it calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from converter.errors import ConversionError
from converter.runtime.child import report
from converter.runtime.worker import Worker

if TYPE_CHECKING:
    from converter.pipeline import Progress, Result
    from converter.request import Request

#: What most conversions import sooner or later.
NEEDED = ("converter.together", "converter.formats.gguf", "converter.architectures", "converter.vocabs.proof")
#: Seconds between two steps that are told of the same stage.
INTERVAL = 0.5
#: Seconds that an interrupted conversion gets to leave its unfinished output in order.
GRACE = 10.0


def start_worker() -> Worker:
    """A process that imports what a conversion takes until it is told what to convert."""
    return Worker(imports=(__name__, "converter.pipeline", *NEEDED))


def begin_conversion(worker: Worker, requests: Sequence[Request], held: Sequence[int]) -> None:
    """Let a process convert.

    Args:
        worker: which has nothing to do yet.
        requests: of one source.
        held: descriptors that the process holds open from now on.
    """
    worker.begin(f"{__name__}:convert_all", held=held, grace=GRACE, requests=list(requests))


def convert_all(requests: Sequence[Request]) -> None:
    """Convert in a child process.

    Reports ``("progress", step)``, and for each request, by its number, ``("made", number, result)`` or ``("failed",
    number, the error's type, reason, exit code)``.
    """
    from converter.pipeline import convert_together

    def finished(number: int, outcome: Result | ConversionError) -> None:
        if isinstance(outcome, ConversionError):
            report(("failed", number, type(outcome).__name__, str(outcome), outcome.exit_code))
        else:
            report(("made", number, outcome))

    convert_together(requests, progress=seldom(lambda step: report(("progress", step))), finished=finished)


def seldom(tell: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Pass on the first step of each stage, those without a measure, and of the others one now and then."""
    last = ("", 0.0)

    def pass_on(progress: Progress) -> None:
        nonlocal last
        stage, when = last
        now = time.monotonic()
        if not progress.total or progress.stage != stage or now - when > INTERVAL:
            last = (progress.stage, now)
            tell(progress)

    return pass_on
