"""Run the jobs of a batch: each source once, in a process of its own, some at a time; a failure stops nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any

from converter.batch.expansion import Job
from converter.batch.lock import BatchLock
from converter.errors import OutputError
from converter.execution import available_threads
from converter.pipeline import Progress, Result

#: Seconds that children get to end when the batch is interrupted.
GRACE = 15.0


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
        groups.setdefault((*source, asked.torch_dtype, asked.trust_remote_code), []).append(job)
    return list(groups.values())


def run(
    jobs: Sequence[Job],
    *,
    at_a_time: int = 1,
    threads: int | None = None,
    inherited: Sequence[int] = (),
    begun: Callable[[Sequence[Job]], None] = lambda group: None,
    progress: Callable[[Sequence[Job], Progress], None] = lambda group, step: None,
) -> Iterator[Outcome]:
    """Run jobs and give each one's outcome as soon as it is known.

    Args:
        jobs: what to do.
        at_a_time: processes, each with the jobs of one source.
        threads: of all processes together; by default one for each processor that this process may use.
        inherited: descriptors that the processes hold open.
        begun: called with the jobs of a source when their process starts.
        progress: called with them and each step.
    """
    waiting = groups_of(jobs)
    together = min(at_a_time, len(waiting))
    share = max(1, (threads or available_threads()) // together) if together > 1 else threads
    with _ended() as running:
        while waiting or running:
            while waiting and len(running) < at_a_time:
                group = waiting.pop(0)
                begun(group)
                child = Child(group, share, inherited)
                running[child.connection] = child
            for connection in wait(list(running)):
                child = running[connection]  # type: ignore[index]
                message = child.receive()
                if message is None:
                    del running[child.connection]
                    yield from child.unfinished()
                elif message[0] == "progress":
                    progress(child.group, message[1])
                else:
                    yield child.settle(*message)


class Child:
    """A process that converts one source.

    Args:
        group: its jobs.
        threads: of each conversion; None for as many as it finds worth using.
        inherited: descriptors that it holds open.
    """

    def __init__(self, group: Sequence[Job], threads: int | None, inherited: Sequence[int]) -> None:
        self.group = group
        self._open = dict(enumerate(group))
        self._log: IO[str] = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.connection, theirs = Pipe()
        with theirs:
            # A group of its own: Ctrl-C in the terminal reaches this process only, which then ends the child.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "converter.batch.child", str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
                pass_fds=(theirs.fileno(), *inherited), process_group=0,
            )  # fmt: skip
        with suppress(OSError):  # it has ended already; what it leaves behind is told later
            self.connection.send([replace(job.request, threads=threads) for job in group])

    def receive(self) -> tuple[Any, ...] | None:
        """The next message; None once it has ended."""
        try:
            message: tuple[Any, ...] = self.connection.recv()
        except (EOFError, OSError):
            self._process.wait()
            return None
        return message

    def settle(self, kind: str, number: int, *what: Any) -> Outcome:
        """The outcome that a message tells."""
        job = self._open.pop(number)
        if kind == "failed":
            error, reason, exit_code = what
            return Outcome(job, reason=reason, error=error, exit_code=exit_code)
        (result,) = what
        return Outcome(job, result, kept=getattr(result, "known", False))

    def unfinished(self) -> Iterator[Outcome]:
        """Failures of the jobs that have no outcome though the process has ended."""
        code = self._process.returncode
        self.connection.close()
        with self._log:
            self._log.seek(0)
            last = next((line.strip() for line in reversed(self._log.read().splitlines()) if line.strip()), "no output")
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}: {last}"
        for job in self._open.values():
            yield Outcome(job, reason=f"the process that converted it {how}", error="ProcessEnded", exit_code=1)

    def interrupt(self) -> None:
        """Let it leave its unfinished outputs in order."""
        self.connection.close()

    def end(self) -> None:
        """Wait for it, not for ever."""
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


@contextmanager
def _ended() -> Iterator[dict[Connection, Child]]:
    """Children that are running, all ended when this is left."""
    running: dict[Connection, Child] = {}
    try:
        yield running
    finally:
        for child in running.values():
            child.interrupt()
        for child in running.values():
            child.end()


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
        early = kept(jobs) if resume else []
        yield from early
        done = {outcome.job.name for outcome in early}
        missing = [job for job in jobs if job.name not in done]
        yield from run(missing, inherited=[lock.descriptor], **how)


def kept(jobs: Sequence[Job]) -> list[Outcome]:
    """Jobs whose results the catalogue has, of models on this machine.

    Whether a model elsewhere is still the same takes its conversion to find out, which then gives the known result.
    """
    from converter.catalogue import Bookkeeping, Source, key_of

    found = []
    for job in jobs:
        model, asked = Path(str(job.request.model)), job.request
        if asked.force or not model.exists() or asked.catalogue is None or not Path(asked.catalogue).exists():
            continue
        with Bookkeeping(Path(asked.catalogue), lambda _: None) as books:
            record = books.answer(key_of(vars(asked), Source.local(model), Path(str(asked.output))))
        if record is not None:
            found.append(Outcome(job, record.result(), kept=True))
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
