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
        self._done: dict[str, int] = {}
        self._lock = threading.Lock()

    def begin(self, item: str, done: int) -> None:
        """Set what is here of a file: none of it, or what an earlier attempt left."""
        with self._lock:
            self._done[item] = done

    def add(self, item: str, count: int) -> None:
        """Count bytes of a file; fewer than none where a download starts over."""
        with self._lock:
            self._done[item] = self._done.get(item, 0) + count
            self._tell(item, sum(self._done.values()), self._total)

    def bar(self, item: str) -> type[tqdm[Any]]:
        """A kind of progress bar, as the Hub's client asks for one, that shows nothing and counts here."""
        counter = self

        class Bar(tqdm):  # type: ignore[type-arg]
            def __init__(self, *arguments: Any, **settings: Any) -> None:
                super().__init__(*arguments, **{**settings, "disable": True})
                counter.begin(item, int(settings.get("initial") or 0))

            def update(self, n: float | None = 1) -> bool | None:
                counter.add(item, int(n or 0))
                return None

            def update_transfer(self, n: float | None = 1) -> None:
                """Bytes on the wire, which the client counts apart from those that arrived in the file."""

        return Bar
