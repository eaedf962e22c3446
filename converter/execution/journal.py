"""Which tiles of an unfinished output are safely on disk, so that the same command goes on where it was killed."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from converter.execution.checksums import Span, checksum
from converter.plan import Positions


def sync(descriptor: int) -> None:
    """Bring a file's written bytes to the disk (macOS has no fdatasync)."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


@dataclass(frozen=True)
class Recorded:
    """What a journal says.

    Attributes:
        positions: where the tensors lie.
        sealed: for each file the runs that are filled in once all tensors are written.
        around: checksum of all else in each file, by its name in the output.
        tiles: checksum of each finished tile by its number.
    """

    positions: Positions
    sealed: tuple[tuple[Span, ...], ...]
    around: Mapping[str, str]
    tiles: Mapping[int, str] = field(default_factory=dict)


class Journal:
    """A text file beside the unfinished output. Each line begins with the checksum of its rest.

    The first line is JSON: the plan's digest, where its tensors lie, the checksums of what is around them. The others
    are finished tiles, ``number:checksum``. A tile is recorded only after its bytes were flushed to the disk, so
    a line that can be read is true even after a power failure. A line cut short or damaged is ignored.

    Args:
        path: the journal's file.
        digest: the plan's digest; a journal of another plan is discarded.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self.path = path
        self.digest = digest
        self._descriptor = -1

    def read(self) -> Recorded | None:
        """What is recorded of this very plan; None where the journal is absent, foreign, damaged or of another form."""
        try:
            first, *others = self.path.read_bytes().decode("latin-1").split("\n")[:-1]
        except (OSError, ValueError):
            return None
        if first.startswith("{"):
            self._discarded("was begun by an earlier version, which kept no checksums of what it wrote")
            return None
        content = _intact(first)
        if content is None:
            self._discarded("is damaged")
            return None
        state = json.loads(content)
        if state["plan"] != self.digest:
            return None
        pairs = (pair.split(":") for line in others for pair in (_intact(line) or "").split())
        return Recorded(
            [tuple(places) for places in state["positions"]],
            tuple(tuple((begin, end) for begin, end in spans) for spans in state["sealed"]),
            state["around"],
            {int(number): tile for number, tile in pairs},
        )

    def _discarded(self, why: str) -> None:
        logging.getLogger(__name__).warning("%s: %s; the output is begun anew", self.path, why)

    def start(self, recorded: Recorded) -> None:
        """Begin afresh, forgetting earlier tiles; OSError where the disk refuses."""
        self.remove()
        state = dataclasses.asdict(recorded) | {"plan": self.digest}
        del state["tiles"]
        self._append(json.dumps(state))
        self.record(recorded.tiles)

    def record(self, tiles: Mapping[int, str]) -> None:
        """Append checksums of tiles whose bytes are on disk; OSError where the disk refuses."""
        if tiles:
            self._append(" ".join(f"{number}:{tile}" for number, tile in tiles.items()))

    def _append(self, content: str) -> None:
        line = f"{checksum(content.encode())} {content}\n".encode()
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
                length = os.fstat(self._descriptor).st_size
                if length and os.pread(self._descriptor, 1, length - 1) != b"\n":
                    line = b"\n" + line  # what was cut short ends here
            while line:
                line = line[os.write(self._descriptor, line) :]
            sync(self._descriptor)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)


def _intact(line: str) -> str | None:
    """A line without its checksum; None where it is not that of the rest."""
    found, _, content = line.partition(" ")
    return content if found == checksum(content.encode("latin-1")) else None
