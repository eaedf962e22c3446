"""Bytes of several downloads together, in place of a progress bar for each."""

from __future__ import annotations

import threading
from typing import Any

from tqdm import tqdm

from converter.sources.source import Progress


class Counter:
    """Told of bytes from several threads, and tells their sum.

    Args:
        tell: called with the file at hand, bytes so far and bytes of all files.
        total: bytes of all files.
    """

    def __init__(self, tell: Progress, total: int) -> None:
        self._tell, self._total = tell, total
        self._done = 0
        self._lock = threading.Lock()

    def add(self, item: str, count: int) -> None:
        """Count bytes of a file; fewer than none where a download starts over."""
        with self._lock:
            self._done += count
            self._tell(item, self._done, self._total)

    def bar(self, item: str) -> type[tqdm[Any]]:
        """A kind of progress bar, as the Hub's client asks for one, that shows nothing and counts here."""
        counter = self

        class Bar(tqdm):  # type: ignore[type-arg]
            def __init__(self, *arguments: Any, **settings: Any) -> None:
                super().__init__(*arguments, **{**settings, "disable": True})

            def update(self, n: float | None = 1) -> bool | None:
                counter.add(item, int(n or 0))
                return None

            def update_transfer(self, n: float | None = 1) -> None:
                """Bytes on the wire, which the client counts apart from those that arrived in the file."""

        return Bar
