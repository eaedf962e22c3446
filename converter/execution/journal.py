"""Which tiles of an unfinished file are safely on disk, so that the same command goes on where it was killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

#: For each planned tensor the position of each of its stored tensors in their file.
Positions = list[tuple[int, ...]]


def sync(descriptor: int) -> None:
    """Bring a file's written bytes to the disk (macOS has no fdatasync)."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


class Journal:
    """A text file beside the unfinished output: a line with the plan's digest and where its tensors lie, then numbers
    of finished tiles.

    A tile is recorded only after its bytes were flushed to the disk, so a line that can be read is true even after a
    power failure. A last line cut short is ignored.

    Args:
        path: the journal's file.
        digest: the plan's digest; a journal of another plan is discarded.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self.path = path
        self.digest = digest
        self._file: IO[str] | None = None

    def finished_tiles(self) -> set[int]:
        """Tiles of this very plan that are done; empty where the journal is absent, foreign or damaged."""
        try:
            lines = self.path.read_text(encoding="ascii").split("\n")[:-1]
            if not lines or json.loads(lines[0])["plan"] != self.digest:
                return set()
            return {int(number) for line in lines[1:] for number in line.split()}
        except (OSError, ValueError, LookupError, TypeError):
            return set()

    def positions(self) -> Positions:
        """Where an earlier run put the tensors; for a journal that names finished tiles."""
        with self.path.open(encoding="ascii") as file:
            return [tuple(map(int, one)) for one in json.loads(file.readline())["positions"]]

    def start(self, positions: Positions) -> None:
        """Begin afresh, forgetting earlier tiles."""
        self.close()
        state = {"plan": self.digest, "positions": positions}
        self.path.write_text(json.dumps(state) + "\n", encoding="ascii")

    def record(self, tiles: Iterable[int]) -> None:
        """Append tiles whose bytes are on disk."""
        if self._file is None:
            self._file = self.path.open("a", encoding="ascii")
        self._file.write(" ".join(map(str, tiles)) + "\n")
        self._file.flush()
        sync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)
