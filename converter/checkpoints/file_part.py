"""A run of a file's bytes, with the interface of a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from converter.errors import CheckpointError
from converter.sources.source_file import FileIdentity, SourceFile


class FilePart(SourceFile):
    """Bytes whose place is found when the first of them is read: in a file far away, each look costs a request.

    Args:
        whole: the file; closing the part leaves it open.
        size: bytes of the part.
        begin: gives the offset of its first byte.
    """

    def __init__(self, whole: SourceFile, size: int, begin: Callable[[], int]) -> None:
        # Nothing of a descriptor's life applies here, so SourceFile's own constructor is not called.
        self.path = whole.path
        self._whole = whole
        self._size = size
        self._find = begin
        self._begin: int | None = None

    @property
    def identity(self) -> FileIdentity:
        return self._whole.identity

    @property
    def size(self) -> int:
        return self._size

    def read_into(self, offset: int, target: NDArray[Any]) -> None:
        """Fill a C-contiguous array with the bytes at ``offset``. Safe to call from several threads at once.

        Raises:
            CheckpointError: they are not within the part, the part is not within the file, or as
                :meth:`SourceFile.read_into`.
        """
        if not 0 <= offset <= self._size - target.nbytes:
            raise CheckpointError(f"{self.path}: {target.nbytes} bytes at {offset} of a part of {self._size} bytes")
        if self._begin is None:
            self._begin = self._find()
        self._whole.read_into(self._begin + offset, target)

    def close(self) -> None:
        """Nothing to give back."""
