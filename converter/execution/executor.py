"""Run plans: threads take tiles, encode them and write them where they belong, in any order."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.tensor import SourceTensor
from converter.errors import CheckpointError, ConversionError
from converter.execution.checksums import checksum_of, spans_of
from converter.execution.comparison import Progress, difference, intact_tiles
from converter.execution.journal import sync
from converter.execution.tile import Importance, NotFinite, describe_not_finite, encode_tile, read_tile
from converter.execution.unfinished import Unfinished, write_failure
from converter.execution.workers import run_workers
from converter.plan import Plan, Tile

#: Seconds between two flushes of finished tiles to the disk and the journal.
FLUSH_SECONDS = 1.0


@dataclass
class Job:
    """An unfinished output that lacks tiles.

    Attributes:
        unfinished: the output, whose files are ready for tiles.
        importance: weights of columns, as :func:`encode_tile` takes them.
        failure: why it could not be written, once it has failed.
        finished: checksums of the tiles that are written, by number.
        unrecorded: those of them that the journal does not know yet.
    """

    unfinished: Unfinished
    importance: Importance = field(default_factory=dict)
    failure: ConversionError | None = None
    finished: dict[int, str] = field(default_factory=dict)
    unrecorded: dict[int, str] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        return self.unfinished.plan

    def write(self, tile: Tile, sources: Mapping[str, SourceTensor], rows: Callable[[], NDArray[np.float32]]) -> str:
        """Encode a tile and write its bytes at their places; their checksum."""
        encoded = encode_tile(self.plan, tile, sources, self.importance, rows)
        descriptor = self.unfinished.descriptors[self.plan.tensors[tile.tensor].file]
        spans = spans_of(self.plan, self.unfinished.positions, tile)
        for array, (position, _) in zip(encoded, spans, strict=True):
            write_at(descriptor, array.reshape(-1).data, position)
        return checksum_of(encoded)

    def flush(self) -> None:
        """Bring written bytes to the disk and only then record the tiles they belong to."""
        try:
            for descriptor in self.unfinished.descriptors:
                sync(descriptor)
            self.unfinished.journal.record(self.unrecorded)
        except OSError as error:
            self.failure = self.failure or write_failure(error)
        self.unrecorded.clear()


def execute(
    jobs: Sequence[Job],
    sources: Mapping[str, SourceTensor],
    *,
    threads: int,
    progress: Progress,
    checking: Progress = lambda *_: None,
) -> None:
    """Write every tile that the jobs' outputs lack, each read once for all of them, and read the outputs back.

    A job that fails holds its ``failure`` afterwards and doesn't keep the others from being written. Memory is bounded
    by ``threads`` tiles, whatever the model's size.

    Args:
        jobs: at least one; their plans read alike (:meth:`Plan.reads_like`).
        sources: source tensors by name.
        threads: workers, at least 1.
        progress: told of each finished tile, from the calling thread.
        checking: told of each tile that was read back at the end, likewise.

    Raises:
        CheckpointError: the source cannot be read or holds weights that are not finite.
    """
    for job in jobs:
        job.finished = intact_tiles(job.unfinished, threads=threads, progress=progress)
    try:
        write_tiles(jobs, sources, threads=threads, progress=progress)
    except NotFinite as error:
        raise CheckpointError(describe_not_finite(sources[error.source])) from None
    for job in jobs:
        if job.failure is None:
            job.failure = difference(job.unfinished, job.finished, threads=threads, progress=checking)


def write_tiles(jobs: Sequence[Job], sources: Mapping[str, SourceTensor], *, threads: int, progress: Progress) -> None:
    """Write the tiles that are not finished; arguments as those of :func:`execute`."""
    written: deque[tuple[int, Tile, Job, str]] = deque()
    flush_at = time.monotonic() + FLUSH_SECONDS

    def write(thread: int, item: tuple[int, Tile]) -> bool:
        """Read a tile once and write it for each job that lacks it; whether any job is left that can be written."""
        number, tile = item
        rows = cache(partial(read_tile, jobs[0].plan, tile, sources))
        # Threads that write to the same file wait for each other, so they begin with different ones.
        first = thread * len(jobs) // threads
        for job in (*jobs[first:], *jobs[:first]):
            if job.failure is not None or number in job.finished:
                continue
            try:
                written.append((number, tile, job, job.write(tile, sources, rows)))
            except (NotFinite, CheckpointError):
                raise
            except ConversionError as error:
                job.failure = error
        return any(job.failure is None for job in jobs)

    def look() -> None:
        """Tell of what was written, and record it from time to time."""
        nonlocal flush_at
        while written:
            number, tile, job, checksum = written.popleft()
            planned = job.plan.tensors[tile.tensor]
            progress(planned.nbytes_of(tile.stop - tile.start), planned.target.name)
            job.finished[number] = job.unrecorded[number] = checksum
            if time.monotonic() >= flush_at:
                for each in jobs:
                    each.flush()
                flush_at = time.monotonic() + FLUSH_SECONDS

    try:
        run_workers(enumerate(jobs[0].plan.tiles()), write, threads=threads, look=look)
    finally:
        for job in jobs:
            job.flush()


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


def available_threads() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
