"""Chunks of remote files: fetched by several threads ahead of who reads them, kept in a bounded memory.

Latency would dominate if every read waited for its own request. A reader that goes through a file in order finds the
next chunks on their way; one that jumps causes one request. The memory is one for all files of a source.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

from converter.sources.ranges import Ranges

CHUNK = 4 << 20
#: The first chunk of a file is this small: it is read for the header, of each of many shards.
FIRST = 256 << 10
#: Chunks asked for beyond the one being read. Where the next tensor wanted lies elsewhere, these were for nothing.
AHEAD = 2
THREADS = 8
#: Bytes kept, over all files; each of the threads may hold a chunk more that is just arriving.
LIMIT = 96 << 20

Key = tuple[Ranges, int]


class ReadAhead:
    """Fetched chunks, the least recently used forgotten first.

    Args:
        limit: bytes kept.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._capacity = max(limit // CHUNK, AHEAD + 1)
        self._chunks: OrderedDict[Key, Future[bytes | bytearray]] = OrderedDict()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, "fetch")

    def chunk_at(self, ranges: Ranges, offset: int) -> tuple[int, bytes | bytearray]:
        """The chunk that holds the byte at ``offset``: where it begins, and its bytes.

        Raises:
            CheckpointError: it cannot be fetched.
        """
        index = 0 if offset < FIRST else 1 + (offset - FIRST) // CHUNK
        key = ranges, index
        with self._lock:
            in_order = (ranges, index - 1) in self._chunks
            self._make_room()
            future = self._chunks.get(key) or self._fetch(key)
            self._chunks.move_to_end(key)
            for further in range(index + 1, index + 1 + (AHEAD if in_order else 0)):
                if _begin(further) < ranges.size and (ranges, further) not in self._chunks and self._make_room():
                    self._fetch((ranges, further))
        try:
            return _begin(index), future.result()
        except BaseException:
            with self._lock:
                if self._chunks.get(key) is future:
                    del self._chunks[key]  # a later read asks again
            raise

    def close(self) -> None:
        """Wait for what is under way and forget everything."""
        self._threads.shutdown(cancel_futures=True)
        self._chunks.clear()

    def _fetch(self, key: Key) -> Future[bytes | bytearray]:
        ranges, index = key
        begin = _begin(index)
        count = min(_begin(index + 1), ranges.size) - begin
        future = self._chunks[key] = self._threads.submit(ranges.read, begin, count)
        return future

    def _make_room(self) -> bool:
        """Forget arrived chunks, the oldest first, until another fits; False where too many are on their way."""
        excess = len(self._chunks) + 1 - self._capacity
        if excess > 0:
            for key in [key for key, future in self._chunks.items() if future.done()][:excess]:
                del self._chunks[key]
        return len(self._chunks) < self._capacity


def _begin(index: int) -> int:
    return FIRST + (index - 1) * CHUNK if index else 0
