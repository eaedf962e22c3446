"""Run the jobs of a batch: each source once, in a process of its own, some at a time; a failure stops nothing else."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from converter.batch.expansion import Job
from converter.batch.lock import BatchLock
from converter.batch.worker import begin_conversion, start_worker
from converter.errors import OutputError
from converter.execution import available_threads
from converter.pipeline import Progress, Result
from converter.runtime import IsolatedFailure, Worker
from converter.runtime.worker import Report


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: the job.
        result: what was made, or made earlier; None where it failed.
        kept: it was made earlier.
        reason: why it failed, one line.
        error: the kind of failure.
        exit_code: what a single conversion would have exited with.
    """

    job: Job
    result: Result | None = None
    kept: bool = False
    reason: str = ""
    error: str = ""
    exit_code: int = 0


def groups_of(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs that read the same source in the same way, together; in the order of their first jobs."""
    groups: dict[Any, list[Job]] = {}
    for job in jobs:
        asked = job.request
        source = (str(asked.model), str(asked.tokenizer), tuple(map(str, asked.adapters)), asked.stream)
        groups.setdefault((*source, tuple(asked.leave_out), asked.torch_dtype, asked.trust_remote_code), []).append(job)
    return list(groups.values())


def run(
    jobs: Sequence[Job],
    *,
    at_a_time: int = 1,
    threads: int | None = None,
    ready: Worker | None = None,
    held: Sequence[int] = (),
    begun: Callable[[Sequence[Job]], None] = lambda group: None,
    progress: Callable[[Sequence[Job], Progress], None] = lambda group, step: None,
) -> Iterator[Outcome]:
    """Run jobs and give each one's outcome as soon as it is known.

    Args:
        jobs: what to do.
        at_a_time: processes, each with the jobs of one source.
        threads: of all processes together; by default one for each processor that this process may use.
        ready: a process that has started already, for the first of them.
        held: descriptors that the processes hold open.
        begun: called with the jobs of a source when their process starts.
        progress: called with them and each step.
    """
    waiting = groups_of(jobs)
    together = min(at_a_time, len(waiting))
    share = max(1, (threads or available_threads()) // together) if together > 1 else threads
    with _ended() as running:
        while waiting or running:
            while waiting and len(running) < at_a_time:
                begun(waiting[0])
                group = Group(waiting.pop(0), ready or start_worker(), share, held)
                running[group.worker.connection] = group
                ready = None
            for connection in wait(list(running)):
                group = running[connection]  # type: ignore[index]
                try:
                    message = group.worker.receive()
                except IsolatedFailure as failure:
                    del running[group.worker.connection]
                    yield from group.unfinished(failure)
                    continue
                if not isinstance(message, Report):
                    del running[group.worker.connection]
                    group.worker.close()
                elif message.value[0] == "progress":
                    progress(group.jobs, message.value[1])
                else:
                    yield group.settle(*message.value)


class Group:
    """Jobs of one source, and the process that does them.

    Args:
        jobs: the jobs.
        worker: a process that has nothing to do yet.
        threads: of each conversion; None for as many as it finds worth using.
        held: descriptors that the process holds open.
    """

    def __init__(self, jobs: Sequence[Job], worker: Worker, threads: int | None, held: Sequence[int]) -> None:
        self.jobs = jobs
        self.worker = worker
        self._open = dict(enumerate(jobs))
        begin_conversion(worker, [replace(job.request, threads=threads) for job in jobs], held)

    def settle(self, kind: str, number: int, *what: Any) -> Outcome:
        """The outcome that a message tells."""
        job = self._open.pop(number)
        if kind == "failed":
            error, reason, exit_code = what
            return Outcome(job, reason=reason, error=error, exit_code=exit_code)
        (result,) = what
        return Outcome(job, result, kept=getattr(result, "known", False))

    def unfinished(self, failure: IsolatedFailure) -> Iterator[Outcome]:
        """Failures of the jobs that have no outcome though the process has ended."""
        self.worker.close()
        for job in self._open.values():
            yield Outcome(job, reason=f"the process that converted it {failure.how}", error="ProcessEnded", exit_code=1)


@contextmanager
def _ended() -> Iterator[dict[Connection, Group]]:
    """Groups whose processes are running, all ended when this is left."""
    running: dict[Connection, Group] = {}
    try:
        yield running
    finally:
        for group in running.values():
            group.worker.interrupt()
        for group in running.values():
            group.worker.close()


def perform(
    jobs: Sequence[Job], directory: Path, file: Path, *, resume: bool, **how: Any
) -> Generator[Outcome, None, None]:
    """Run jobs while no other batch writes to the directory; close the generator to end all that still runs.

    Args:
        jobs: what to do.
        directory: where outputs go; made where it is missing.
        file: the batch's file.
        resume: leave out jobs whose results the catalogue has.
        how: arguments of :func:`run`.

    Raises:
        OutputError: another batch holds the directory, or it cannot be written.
    """
    make_directories(directory, jobs)
    with BatchLock(directory, file) as lock:
        early = [Outcome(job, reason=job.missing, error="UsageError", exit_code=2) for job in jobs if job.missing]
        early += kept(jobs) if resume else []
        yield from early
        done = {outcome.job.name for outcome in early}
        missing = [job for job in jobs if job.name not in done]
        yield from run(missing, held=[lock.descriptor], **how)


def kept(jobs: Sequence[Job]) -> list[Outcome]:
    """Jobs whose results the catalogue has, of models on this machine.

    Whether a model elsewhere is still the same takes its conversion to find out, which then gives the known result.
    """
    from converter.catalogue import Bookkeeping, Source, key_of
    from converter.pipeline import known_result

    found = []
    for job in jobs:
        model, asked = Path(str(job.request.model)), job.request
        if (
            job.missing
            or asked.force
            or not model.exists()
            or asked.catalogue is None
            or not Path(asked.catalogue).exists()
        ):
            continue
        with Bookkeeping(Path(asked.catalogue), lambda _: None) as books:
            record = books.answer(key_of(vars(asked), Source.local(model), Path(str(asked.output))))
        if record is not None:
            found.append(Outcome(job, known_result(record), kept=True))
    return found


def make_directories(directory: Path, jobs: Sequence[Job]) -> None:
    """Make the directories of all outputs.

    Raises:
        OutputError: one cannot be made.
    """
    outputs = [str(job.request.output) for job in jobs]
    for path in {directory, *(Path(output).parent for output in outputs if "://" not in output)}:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{path}: cannot be made: {error.strerror}") from error
