"""A place on another machine that takes files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

#: Told of an upload: the file at hand, bytes that are there, bytes of all files.
Progress = Callable[[str, int, int], None]

#: Files to upload, with the address of each.
Uploads = Sequence[tuple[Path, str]]


class Store(Protocol):
    """A place that takes files. Its refusals are of kind OutputError."""

    def check(self, url: str) -> None:
        """Refuse an address under which nothing can be written."""

    def holds(self, url: str) -> bool:
        """Whether there is something at the address."""
        ...

    def put(self, uploads: Uploads, tell: Progress) -> None:
        """Upload files, each complete or not at all."""
