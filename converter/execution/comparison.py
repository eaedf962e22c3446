"""Outputs read back: whether what lies on the disk is what was written there."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping

from converter.errors import OutputError
from converter.execution.checksums import checksum_at, spans_of
from converter.execution.unfinished import Unfinished
from converter.execution.workers import run_workers
from converter.plan import Tile

#: Called with bytes read since the last call and the name of the tensor they belong to.
Progress = Callable[[int, str], None]


def differing_tiles(
    unfinished: Unfinished, expected: Mapping[int, str], *, threads: int, progress: Progress
) -> dict[int, str]:
    """Read tiles and compare them with their checksums. Memory is bounded by a chunk for each thread.

    Args:
        unfinished: the output.
        expected: checksums by the tiles' numbers.
        threads: workers, at least 1.
        progress: told of each tile that is as it was written, from the calling thread.

    Returns:
        By number, the tensors of tiles that are not.
    """
    plan = unfinished.plan
    read: deque[tuple[int, Tile, bool]] = deque()
    differing: dict[int, str] = {}

    def compare(_: int, item: tuple[int, Tile]) -> bool:
        number, tile = item
        descriptor = unfinished.descriptors[plan.tensors[tile.tensor].file]
        found = checksum_at(descriptor, spans_of(plan, unfinished.positions, tile))
        read.append((number, tile, found == expected[number]))
        return True

    def look() -> None:
        while read:
            number, tile, same = read.popleft()
            planned = plan.tensors[tile.tensor]
            if same:
                progress(planned.nbytes_of(tile.stop - tile.start), planned.target.name)
            else:
                differing[number] = planned.target.name

    tiles = ((number, tile) for number, tile in enumerate(plan.tiles()) if number in expected)
    run_workers(tiles, compare, threads=threads, look=look)
    return differing


def intact_tiles(unfinished: Unfinished, *, threads: int, progress: Progress) -> dict[int, str]:
    """Checksums of the tiles of an earlier run that are still as it wrote them; what isn't is told.

    Arguments as those of :func:`differing_tiles`.
    """
    recorded = unfinished.recorded
    differing = differing_tiles(unfinished, recorded, threads=threads, progress=progress)
    if differing:
        logging.getLogger(__name__).warning(
            "%s: %s changed on the disk since the last run; written anew", unfinished.path, described(differing)
        )
    return {number: tile for number, tile in recorded.items() if number not in differing}


def difference(
    unfinished: Unfinished, expected: Mapping[int, str], *, threads: int, progress: Progress
) -> OutputError | None:
    """Read a whole output: the refusal where it is not what was written, or None.

    Arguments as those of :func:`differing_tiles`.
    """
    tiles = differing_tiles(unfinished, expected, threads=threads, progress=progress)
    what = [described(tiles)] if tiles else []
    what += [f"what is around the tensors of {unfinished.path / name}" for name in unfinished.changed_around()]
    if not what:
        return None
    return OutputError(
        f"{unfinished.path}: the disk or the memory returned other bytes than were written, in {' and '.join(what)}; "
        "run the same command again to write them anew; if it happens again, test this machine's memory and disk"
    )


def described(tiles: Mapping[int, str]) -> str:
    """How many tiles of which tensors, few of them by name."""
    tensors = Counter(tiles.values())
    named = [f"{count} {'piece' if count == 1 else 'pieces'} of {name}" for name, count in tensors.most_common(3)]
    return ", ".join(named) + (f" and of {len(tensors) - 3} other tensors" if len(tensors) > 3 else "")
