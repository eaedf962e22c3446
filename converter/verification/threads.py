"""How many threads are worth using on a file."""

from __future__ import annotations

import os
from pathlib import Path

from converter.outputs import nbytes_of

#: Bytes of the file worth a thread. With less to do, threads wait for each other, and badly on a busy machine.
TO_GENERATE = 1 << 30  # every weight is read once for each token
TO_COMPARE = 64 << 20  # every weight is used on a whole window of tokens


def fitting_threads(path: Path, threads: int | None, share: int) -> int:
    """Threads worth using: those asked for, or one for each processor, but at most one for each ``share`` bytes."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(threads or processors, nbytes_of(path) // share))
