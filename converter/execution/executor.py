"""Run a plan: threads take tiles, encode them and write them where the plan says, in any order."""

from __future__ import annotations

import errno
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.tensor import SourceTensor
from converter.errors import CheckpointError, OutputError
from converter.execution.journal import Journal, sync
from converter.execution.tile import Importance, NotFinite, describe_not_finite, encode_tile
from converter.plan import Plan, Tile

#: Seconds between two flushes of finished tiles to the disk and the journal.
FLUSH_SECONDS = 1.0

#: Called with bytes written since the last call and the name of the tensor they belong to.
Progress = Callable[[int, str], None]


def execute(
    plan: Plan,
    sources: Mapping[str, SourceTensor],
    descriptor: int,
    data_start: int,
    journal: Journal,
    *,
    threads: int,
    progress: Progress,
    importance: Importance = MappingProxyType({}),
) -> None:
    """Write every tile that the journal doesn't name as finished.

    Memory is bounded by ``threads`` tiles, whatever the model's size.

    Args:
        plan: what to write.
        sources: source tensors by name.
        descriptor: the open output file, at its full length.
        data_start: position of the data section in it.
        journal: where finished tiles are recorded; started for this plan.
        threads: workers, at least 1.
        progress: told of each finished tile, from the calling thread.
        importance: weights of columns, as :func:`encode_tile` takes them.

    Raises:
        CheckpointError: the source cannot be read or holds weights that are not finite.
        OutputError: the file cannot be written.
    """
    finished = journal.finished_tiles()
    pending = enumerate(plan.tiles())
    lock, stop = threading.Lock(), threading.Event()
    done: queue.SimpleQueue[tuple[int, Tile] | None] = queue.SimpleQueue()

    def next_tile() -> tuple[int, Tile] | None:
        with lock:
            return next((item for item in pending if item[0] not in finished), None)

    def work() -> None:
        try:
            while not stop.is_set() and (item := next_tile()) is not None:
                encoded = encode_tile(plan, item[1], sources, importance)
                write_tile(plan, item[1], encoded, descriptor, data_start)
                done.put(item)
        except BaseException:
            stop.set()
            raise
        finally:
            done.put(None)

    def report(tile: Tile) -> None:
        planned = plan.tensors[tile.tensor]
        progress((tile.stop - tile.start) * planned.row_bytes, planned.target.name)

    for number, tile in enumerate(plan.tiles()):
        if number in finished:
            report(tile)
    unrecorded: list[int] = []
    flush_at = time.monotonic() + FLUSH_SECONDS
    with ThreadPoolExecutor(threads, "tile") as pool:
        workers = [pool.submit(work) for _ in range(threads)]
        try:
            running = threads
            while running:
                item = done.get()
                if item is None:
                    running -= 1
                    continue
                report(item[1])
                unrecorded.append(item[0])
                if time.monotonic() >= flush_at:
                    flush(descriptor, journal, unrecorded)
                    flush_at = time.monotonic() + FLUSH_SECONDS
        finally:
            stop.set()
    flush(descriptor, journal, unrecorded)
    for worker in workers:
        try:
            worker.result()
        except NotFinite as error:
            raise CheckpointError(describe_not_finite(sources[error.source])) from None


def write_tile(plan: Plan, tile: Tile, encoded: NDArray[np.uint8], descriptor: int, data_start: int) -> None:
    """Write a tile's bytes at their place."""
    planned = plan.tensors[tile.tensor]
    remaining = encoded.reshape(-1).data
    position = data_start + planned.offset + tile.start * planned.row_bytes
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


def flush(descriptor: int, journal: Journal, tiles: list[int]) -> None:
    """Bring written bytes to the disk and only then record the tiles they belong to; empties the list."""
    try:
        sync(descriptor)
        if tiles:
            journal.record(tiles)
    except OSError as error:
        raise write_failure(error) from error
    tiles.clear()
