"""Why an output is larger than its method promises: rows that the method's blocks do not divide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from converter.quants import QUANT_TYPES
from converter.recipes.choose import quantizable
from converter.recipes.methods import Method

if TYPE_CHECKING:
    from converter.architectures.target import TargetTensor

#: How many times the intended bits per weight an output takes where it is told.
WORTH_TELLING = 1.05
#: The method of fewest bits whose blocks are the smallest that there are, 32 weights.
SMALL_BLOCKS = "iq4_nl"


def fallback_warnings(
    method: Method, targets: Sequence[TargetTensor], types: Sequence[str], fallen: Mapping[str, str]
) -> list[str]:
    """A sentence where an output takes notably more bits than its method is meant to.

    Args:
        method: what was asked for.
        targets: all tensors.
        types: type of each.
        fallen: by tensor, the type that it would have, as :func:`converter.recipes.choose.fallbacks` tells.
    """
    stored = {target.name: (target, kind) for target, kind in zip(targets, types, strict=True)}
    elements = sum(target.elements for target in targets)
    taken = sum(target.elements * bits_of(kind) for target, kind in stored.values()) / max(elements, 1)
    others = [stored[name] for name in fallen]
    more = sum(target.elements * (bits_of(kind) - bits_of(fallen[target.name])) for target, kind in others)
    intended = taken - more / max(elements, 1)
    if taken < WORTH_TELLING * intended:
        return []
    matrices = sum(quantizable(target) for target in targets)
    block = max(QUANT_TYPES[kind].block_size for kind in fallen.values())
    rows = sorted({target.row_length for target, _ in others})
    lengths = " and ".join(map(str, rows)) if len(rows) < 4 else f"{rows[0]} to {rows[-1]}"
    kinds = " or ".join(sorted({kind for _, kind in others}))
    bits = bits_of(SMALL_BLOCKS)
    fits = bits < taken and all(row % QUANT_TYPES[SMALL_BLOCKS].block_size == 0 for row in rows)
    advice = f"; {SMALL_BLOCKS} takes {bits:.2f} with such rows" if fits and method.name != SMALL_BLOCKS else ""
    return [
        f"{method.name} takes {taken:.2f} bits per weight here instead of {intended:.2f}: {len(others)} of {matrices} "
        f"matrices are stored as {kinds}, because their rows of {lengths} are not a multiple of {block}{advice}"
    ]


def bits_of(kind: str) -> float:
    return QUANT_TYPES[kind].bits_per_weight
