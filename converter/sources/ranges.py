"""Where the bytes of a file come from that is not on this machine."""

from __future__ import annotations

from typing import Protocol


class Ranges(Protocol):
    """Where the bytes of one file come from.

    Attributes:
        url: its address.
        size: in bytes.
        version: the store's word for its present contents, such as an ETag.
    """

    url: str
    size: int
    version: str

    def read(self, offset: int, count: int) -> bytes | bytearray:
        """Exactly these bytes, from any thread, after as many attempts as it takes.

        Raises:
            CheckpointError: the file is no longer what it was, or may not be read.
            UnreachableSource: nobody answers, or only to say so.
        """
        ...
