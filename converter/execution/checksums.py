"""Checksums of what was written, taken from the bytes in memory and compared with what the file gives back.

They are 64 bits of xxh3 (https://xxhash.com): no defence against forgers, but against a bit that the disk or the memory
flipped, and as fast as memory is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64, xxh3_64_hexdigest

from converter.plan import Plan, Positions, Tile

#: A run of a file's bytes: position of the first, and of the one behind the last.
Span = tuple[int, int]

#: Bytes read at a time. They stay in a core's share of the cache between reading and summing.
CHUNK = 1 << 18


def checksum(content: bytes) -> str:
    """Of bytes at hand, 16 hexadecimal digits."""
    return xxh3_64_hexdigest(content)


def checksum_of(arrays: Iterable[NDArray[Any]]) -> str:
    """Of C-contiguous arrays' bytes, one after the other."""
    digest = xxh3_64()
    for array in arrays:
        digest.update(array.reshape(-1).data)
    return digest.hexdigest()


def checksum_at(descriptor: int, spans: Iterable[Span]) -> str:
    """Of a file's bytes, one run after the other; what cannot be read has none, which equals no other's."""
    digest, buffer = xxh3_64(), np.empty(CHUNK, np.uint8).data
    try:
        for begin, end in spans:
            position = begin
            while position < end:
                count = os.preadv(descriptor, [buffer[: min(CHUNK, end - position)]], position)
                if not count:
                    return ""
                digest.update(buffer[:count])
                position += count
    except OSError:
        return ""
    return digest.hexdigest()


def spans_of(plan: Plan, positions: Positions, tile: Tile) -> list[Span]:
    """Where the bytes of a tile lie in its tensor's file, in the order of its stored tensors."""
    rows = tile.stop - tile.start
    begins = [
        (position + tile.start // stored.unit_rows * stored.unit_bytes, stored.nbytes(rows))
        for stored, position in zip(plan.tensors[tile.tensor].stored, positions[tile.tensor], strict=True)
    ]
    return [(begin, begin + nbytes) for begin, nbytes in begins]


def around(plan: Plan, positions: Positions, file: int, nbytes: int, sealed: Sequence[Span] = ()) -> Iterator[Span]:
    """The runs of a file that hold no tensor: headers, padding.

    Args:
        plan: whose tensors they are not.
        positions: of its tensors.
        file: number of the file.
        nbytes: its length.
        sealed: runs that are left out too, as they are filled in last.
    """
    taken = [
        (position, position + stored.nbytes(planned.target.rows))
        for planned, places in zip(plan.tensors, positions, strict=True)
        if planned.file == file
        for stored, position in zip(planned.stored, places, strict=True)
    ]
    end = 0
    for begin, stop in [*sorted([*taken, *sealed]), (nbytes, nbytes)]:
        if begin > end:
            yield end, begin
        end = max(end, stop)
