"""A file of weights that stays where it is: read by ranges, with the interface of a file on this machine."""

from __future__ import annotations

import hashlib
from pathlib import PosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.errors import CheckpointError
from converter.sources.ranges import Ranges
from converter.sources.read_ahead import ReadAhead
from converter.sources.source_file import FileIdentity, SourceFile


class RemotePath(PosixPath):
    """An address with the interface of a path, for ``name`` and for messages; no such file is here to be opened."""

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)


class UnreachableSource(CheckpointError):
    """The source cannot be reached at present. What was made of it so far stays good: it has not changed."""

    def __init__(self, refusal: Exception) -> None:
        super().__init__(f"{refusal}; run the same command to go on")


class RemoteFile(SourceFile):
    """A :class:`SourceFile` whose bytes come through a :class:`ReadAhead` shared with its siblings.

    Args:
        ranges: the file.
        chunks: memory for what was fetched and is about to be needed.
    """

    def __init__(self, ranges: Ranges, chunks: ReadAhead) -> None:
        # Nothing of a descriptor's life applies here, so SourceFile's own constructor is not called.
        self.path = RemotePath(ranges.url)
        self._ranges = ranges
        self._chunks = chunks
        # Identities are compared and hashed into plans: a number that changes with the contents stands for the time.
        number = int.from_bytes(hashlib.sha256(ranges.version.encode()).digest()[:7], "big")
        self._identity = FileIdentity(self.path, ranges.size, number)

    def read_into(self, offset: int, target: NDArray[Any]) -> None:
        """Fill a C-contiguous array with the bytes at ``offset``. Safe to call from several threads at once.

        Raises:
            CheckpointError: the file ends before, or as :meth:`Ranges.read`.
        """
        assert target.flags.c_contiguous
        view = target.reshape(-1).view(np.uint8).data
        if offset + len(view) > self.size:
            raise CheckpointError(f"{self.path}: has {self.size} bytes, {len(view)} at byte {offset} expected")
        while view:
            begin, chunk = self._chunks.chunk_at(self._ranges, offset)
            part = memoryview(chunk)[offset - begin : offset - begin + len(view)]
            view[: len(part)] = part
            view, offset = view[len(part) :], offset + len(part)

    def close(self) -> None:
        """Nothing to give back: connections and memory belong to all files of the source together."""
