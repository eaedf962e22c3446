"""Conversions from end to end: checkpoint → family → plan → output → verification."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.errors import ConversionError
from converter.outputs import nbytes_of
from converter.request import Request
from converter.result import Progress, Result

if TYPE_CHECKING:
    from converter.conversion import Conversion
    from converter.opening import OpenModel

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
        for step in (run.check, run.open, run.prepare):
            still_going(step)
        still_going(lambda number: settle([number], run.planned(number)) if requests[number].dry_run else None)
        still_going(run.begin)
        for group in run.groups(number for number in range(len(requests)) if number not in outcomes):
            try:
                run.write(group)
            except ConversionError as error:
                for number in group:
                    conversions[number].abandon(error)
                settle(group, error)
        still_going(lambda number: settle([number], run.complete(number)))
    return [outcomes[number] for number in range(len(requests))]


class Together:
    """The steps of requests that share a model. Each raises ConversionError for the request whose number it is given.

    Args:
        requests: what is asked for.
        conversions: filled with each request's conversion.
        stack: closes what is opened.
        tell: called with each step.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        conversions: dict[int, Conversion],
        stack: ExitStack,
        tell: Callable[[Progress], None],
    ) -> None:
        self.requests = requests
        self.conversions = conversions
        self.stack = stack
        self.tell = tell
        self.threads = max((request.threads or 0 for request in requests), default=0) or available_threads()
        self.read_seconds = 0.0
        self.write_seconds: dict[int, float] = {}
        self._model: OpenModel | ConversionError | None = None

    def check(self, number: int) -> None:
        """Refuse choices and outputs before any work."""
        from converter.conversion import Conversion
        from converter.opening import output_name

        request = self.requests[number]
        self.conversions[number] = Conversion(request, output_name(request.model))

    def open(self, number: int) -> None:
        """Open the model, once; and measure an importance matrix first where that is asked for."""
        request = self.requests[number]
        if self._model is None:
            from converter.opening import open_model

            started = time.perf_counter()
            try:
                self._model = self.stack.enter_context(
                    open_model(request, lambda item: self.tell(Progress("read", item=item)))
                )
            except ConversionError as error:
                self._model = error
            self.read_seconds = time.perf_counter() - started
        if isinstance(self._model, ConversionError):
            raise self._model
        if request.calibrate and not request.dry_run:
            conversion = self.conversions[number]
            measured = calibrated(self.model, request, conversion.output, self.tell)
            conversion.request = replace(request, imatrix=[*request.imatrix, measured])

    @property
    def model(self) -> OpenModel:
        assert self._model is not None
        assert not isinstance(self._model, ConversionError)
        return self._model

    def prepare(self, number: int) -> None:
        """Plan the output."""
        self.conversions[number].prepare(self.model)
        self.conversions[number].seconds["read"] += self.read_seconds

    def planned(self, number: int) -> Result:
        """What a dry run tells."""
        return self.conversions[number].planned(self.model)

    def begin(self, number: int) -> None:
        """Open the unfinished output."""
        self.conversions[number].begin(self.stack)

    def groups(self, numbers: Iterable[int]) -> list[list[int]]:
        """Requests whose plans read alike, so that a tile is read once for all of a group."""
        groups: list[list[int]] = []
        for number in numbers:
            plan = self.conversions[number].prepared.plan
            for group in groups:
                if plan.reads_like(self.conversions[group[0]].prepared.plan):
                    group.append(number)
                    break
            else:
                groups.append([number])
        return groups

    def write(self, group: Sequence[int]) -> None:
        """Write the tensors of a group's outputs.

        Raises:
            CheckpointError: the source cannot be read; for all of them.
        """
        from converter.execution import execute

        started = time.perf_counter()
        jobs = [self.conversions[number].job for number in group]
        total, done = sum(job.plan.data_bytes for job in jobs), 0

        def wrote(nbytes: int, name: str) -> None:
            nonlocal done
            done += nbytes
            self.tell(Progress("write", done, total, name))

        execute(jobs, self.model.checkpoint.tensors, threads=self.threads, progress=wrote)
        for number in group:
            self.conversions[number].seconds["write"] = time.perf_counter() - started

    def complete(self, number: int) -> Result:
        """Verify a written output and give it its final name."""
        conversion = self.conversions[number]
        if conversion.job.failure is not None:
            raise conversion.job.failure
        verification = conversion.verify(self.model, lambda item: self.tell(Progress("verify", item=item)))
        conversion.unfinished.finish()
        files = tuple(conversion.unfinished.outputs)
        return replace(
            conversion.planned(self.model),
            output=files[0],
            output_bytes=sum(nbytes_of(path) for path in files),
            files=files,
            resumed=conversion.resumed,
            verification=verification,
        )


def calibrated(model: OpenModel, request: Request, output: Path, tell: Callable[[Progress], None]) -> Path:
    """Measure an importance matrix beside the output, unless one newer than the model and the texts is there."""
    from converter.imatrix import collect

    path = output.with_name(f"{output.name}.imatrix.gguf")
    inputs = [*(model.path.iterdir() if model.path.is_dir() else [model.path]), *map(Path, request.calibrate)]
    if path.exists() and all(one.exists() and one.stat().st_mtime < path.stat().st_mtime for one in inputs):
        tell(Progress("calibrate", item=f"{path} is up to date"))
        return path
    collect(
        model.path,
        request.calibrate,
        path,
        threads=request.threads,
        overwrite=True,
        progress=lambda at: tell(Progress("calibrate", at.done, at.total)),
    )
    return path


def available_threads() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
