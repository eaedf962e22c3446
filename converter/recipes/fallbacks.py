"""Why an output is larger than its method promises: rows that the method's blocks do not divide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from converter.quants import QUANT_TYPES
from converter.recipes.choose import quantizable
from converter.recipes.methods import Method

if TYPE_CHECKING:
    from converter.plan import Plan

#: How many times the intended bits per weight an output takes where it is told.
WORTH_TELLING = 1.05
#: The method of fewest bits whose blocks are the smallest that there are, 32 weights.
SMALL_BLOCKS = "iq4_nl"


def fallback_warnings(method: Method, plan: Plan, fallen: Mapping[str, str]) -> list[str]:
    """A sentence where much of a model is stored in other types than its method's.

    Args:
        method: what was asked for.
        plan: the output.
        fallen: by tensor, the type that it would have, as :func:`converter.recipes.choose.fallbacks` tells.
    """
    others = [planned for planned in plan.tensors if planned.target.name in fallen]
    more = sum(
        planned.target.elements * (bits_of(planned.type) - bits_of(fallen[planned.target.name])) for planned in others
    )
    intended = plan.bits_per_weight - more / max(plan.elements, 1)
    if plan.bits_per_weight < WORTH_TELLING * intended:
        return []
    matrices = sum(quantizable(planned.target) for planned in plan.tensors)
    block = max(QUANT_TYPES[kind].block_size for kind in fallen.values())
    rows = sorted({planned.target.row_length for planned in others})
    lengths = ", ".join(map(str, rows[:3])) + (", …" if len(rows) > 3 else "")
    types = " or ".join(sorted({planned.type for planned in others}))
    bits = bits_of(SMALL_BLOCKS)
    fits = bits < plan.bits_per_weight and all(row % QUANT_TYPES[SMALL_BLOCKS].block_size == 0 for row in rows)
    advice = f"; {SMALL_BLOCKS} takes {bits:.2f} with such rows" if fits and method.name != SMALL_BLOCKS else ""
    taken = f"{method.name} takes {plan.bits_per_weight:.2f} bits per weight here instead of {intended:.2f}"
    return [
        f"{taken}: {len(others)} of {matrices} matrices are stored as {types}, because their rows of {lengths} are not "
        f"a multiple of {block}{advice}"
    ]


def bits_of(kind: str) -> float:
    return QUANT_TYPES[kind].bits_per_weight
