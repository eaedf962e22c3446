"""Run plans: threads take tiles, encode them and write them where they belong, in any order."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.tensor import SourceTensor
from converter.errors import CheckpointError, ConversionError, OutputError
from converter.execution.journal import Journal, Positions, sync
from converter.execution.tile import Importance, NotFinite, describe_not_finite, encode_tile, read_tile
from converter.plan import Plan, Tile

#: Seconds between two flushes of finished tiles to the disk and the journal.
FLUSH_SECONDS = 1.0
#: Seconds between two looks at what the threads have done: woken for each tile, this thread would hold them up.
PROGRESS_SECONDS = 0.05

#: Called with bytes written since the last call and the name of the tensor they belong to.
Progress = Callable[[int, str], None]


@dataclass
class Job:
    """A plan and the open files it is written to.

    Attributes:
        plan: what to write.
        descriptors: the open output files, each at its full length.
        positions: where in them the stored tensors of each planned tensor lie.
        journal: where finished tiles are recorded; started for this plan.
        importance: weights of columns, as :func:`encode_tile` takes them.
        failure: why it could not be written, once it has failed.
    """

    plan: Plan
    descriptors: Sequence[int]
    positions: Positions
    journal: Journal
    importance: Importance = field(default_factory=dict)
    failure: ConversionError | None = None
    finished: set[int] = field(default_factory=set)
    unrecorded: list[int] = field(default_factory=list)

    def write(self, tile: Tile, sources: Mapping[str, SourceTensor], rows: Callable[[], NDArray[np.float32]]) -> None:
        """Encode a tile and write its bytes at their places."""
        encoded = encode_tile(self.plan, tile, sources, self.importance, rows)
        planned, positions = self.plan.tensors[tile.tensor], self.positions[tile.tensor]
        for stored, array, position in zip(planned.stored, encoded, positions, strict=True):
            write_at(
                self.descriptors[planned.file],
                array.reshape(-1).data,
                position + tile.start // stored.unit_rows * stored.unit_bytes,
            )

    def flush(self) -> None:
        """Bring written bytes to the disk and only then record the tiles they belong to."""
        try:
            for descriptor in self.descriptors:
                sync(descriptor)
            if self.unrecorded:
                self.journal.record(self.unrecorded)
        except OSError as error:
            self.failure = self.failure or write_failure(error)
        self.unrecorded.clear()


def execute(jobs: Sequence[Job], sources: Mapping[str, SourceTensor], *, threads: int, progress: Progress) -> None:
    """Write every tile that the jobs' journals don't name as finished, each read once for all of them.

    A job that fails holds its ``failure`` afterwards and doesn't keep the others from being written. Memory is bounded
    by ``threads`` tiles, whatever the model's size.

    Args:
        jobs: at least one; their plans read alike (:meth:`Plan.reads_like`).
        sources: source tensors by name.
        threads: workers, at least 1.
        progress: told of each finished tile, from the calling thread.

    Raises:
        CheckpointError: the source cannot be read or holds weights that are not finite.
    """
    for job in jobs:
        job.finished = job.journal.finished_tiles()
    for number, tile in enumerate(jobs[0].plan.tiles()):
        for job in jobs:
            if number in job.finished:
                report(progress, job, tile)
    shared = Shared(jobs, sources)
    flush_at = time.monotonic() + FLUSH_SECONDS
    with ThreadPoolExecutor(threads, "tile") as pool:
        # Threads that write to the same file wait for each other, so they begin with different ones.
        workers = [pool.submit(shared.work, number * len(jobs) // threads) for number in range(threads)]
        try:
            running: Collection[Future[None]] = workers
            while running:
                running = wait(running, min(PROGRESS_SECONDS, FLUSH_SECONDS)).not_done
                while shared.done:
                    number, tile, job = shared.done.popleft()
                    report(progress, job, tile)
                    job.unrecorded.append(number)
                    if time.monotonic() >= flush_at:
                        for each in jobs:
                            each.flush()
                        flush_at = time.monotonic() + FLUSH_SECONDS
        finally:
            shared.stop.set()
    for job in jobs:
        job.flush()
    for worker in workers:
        try:
            worker.result()
        except NotFinite as error:
            raise CheckpointError(describe_not_finite(sources[error.source])) from None


def report(progress: Progress, job: Job, tile: Tile) -> None:
    """Tell of a finished tile."""
    planned = job.plan.tensors[tile.tensor]
    progress(planned.nbytes_of(tile.stop - tile.start), planned.target.name)


class Shared:
    """What the workers share.

    Attributes:
        done: the tiles that were written, with their numbers and jobs.
        stop: set to end all workers.
    """

    def __init__(self, jobs: Sequence[Job], sources: Mapping[str, SourceTensor]) -> None:
        self.jobs = jobs
        self.sources = sources
        self.done: deque[tuple[int, Tile, Job]] = deque()
        self.stop = threading.Event()
        self._pending = enumerate(jobs[0].plan.tiles())
        self._lock = threading.Lock()

    def work(self, first: int) -> None:
        """Take tiles until there are none, and write each for the ``first`` job first."""
        jobs = (*self.jobs[first:], *self.jobs[:first])
        try:
            while not self.stop.is_set() and (item := self._next()) is not None:
                self._write(*item, jobs)
        except BaseException:
            self.stop.set()
            raise

    def _next(self) -> tuple[int, Tile] | None:
        with self._lock:
            return next(self._pending, None)

    def _write(self, number: int, tile: Tile, jobs: Sequence[Job]) -> None:
        """Read a tile once and write it for each job that lacks it."""
        rows = cache(partial(read_tile, self.jobs[0].plan, tile, self.sources))
        for job in jobs:
            if job.failure is not None or number in job.finished:
                continue
            try:
                job.write(tile, self.sources, rows)
                self.done.append((number, tile, job))
            except (NotFinite, CheckpointError):
                raise
            except ConversionError as error:
                job.failure = error
                if all(each.failure is not None for each in self.jobs):
                    self.stop.set()


def write_at(descriptor: int, remaining: memoryview, position: int) -> None:
    """Write all the bytes at a position.

    Raises:
        OutputError: the disk is full or refuses.
    """
    while remaining:
        try:
            written = os.pwrite(descriptor, remaining, position)
        except OSError as error:
            raise write_failure(error) from error
        remaining, position = remaining[written:], position + written


def write_failure(error: OSError) -> OutputError:
    """An operating system's refusal to write, in words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError("the disk filled up while writing; free some space and run the same command to go on")
    return OutputError(f"the output cannot be written: {error.strerror}; run the same command to go on")


def available_threads() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
