"""Searches for the scale, or scale and minimum, with which a sub-block loses least.

Sub-blocks lie across lanes, so that each lane adds up its own sub-block from the first element to the last: the order
in which ggml's C adds, hence the same roundings and the same choices. Arithmetic: ``make_*_quants`` of ggml-quants.c.
"""

from __future__ import annotations

from typing import NamedTuple

from converter.quants.kernel import Source
from converter.quants.lanes import Lanes, Variable, mapped

ALL_ZERO = 1e-15  # GROUP_MAX_EPS: magnitudes below count as zero
_ROUNDED_SAFELY = 2.0**21


class Symmetric(NamedTuple):
    """Per lane: its scale, the factor from elements to quants that it was found with, and whether all is zero."""

    scale: Lanes
    factor: Lanes
    empty: Lanes

    def quants(self, values: Lanes, levels: int) -> Lanes:
        """int32 from 0 to ``2 * levels - 1``; 0 in lanes that are all zero."""
        found = (values * self.factor).rounded().at_most(levels - 1.0).at_least(-float(levels)).truncated()
        return self.empty.where(0, found + levels)


def search_symmetric(x: Source, elements: list[Lanes], weights: list[Lanes], levels: int) -> Symmetric:
    """The scale of each lane that loses least; zero is in the middle of the quants.

    Candidates put the element of largest magnitude, the first of several, at ``-levels`` and up to 0.9 beside it.

    Args:
        x: where to put the loop over candidates.
        elements: float32 per element of a sub-block, one sub-block per lane.
        weights: of the elements' squared errors.
        levels: quants go from ``-levels`` to ``levels - 1``.
    """
    zero = elements[0].filled(0.0)
    largest, empty = first_largest(elements)
    weighted = [weight * values for weight, values in zip(weights, elements, strict=True)]

    scale, best, best_factor = Variable(zero), Variable(zero), Variable(zero)
    with x.repeat(19) as index:
        step = index - (index > 9).where(9, 10)  # 0 first, then -9 to -1, then 1 to 9
        step = index.equals(0).where(0, step)
        factor = (step.floats() * 0.1 + float(levels)) * -1.0 / largest
        products = quants_squared = zero
        for values, weight, product in zip(elements, weights, weighted, strict=True):
            quants = (factor * values).rounded().at_most(levels - 1.0).at_least(-float(levels))
            products = products + product * quants
            quants_squared = quants_squared + weight * quants * quants
        better = (quants_squared > 0.0) & (products * products > best.get() * quants_squared)
        better = better | index.equals(0)
        candidate = quants_squared.equals(0.0).where(0.0, products / quants_squared)
        scale.set(better.where(candidate, scale.get()))
        best.set(better.where(candidate * products, best.get()))
        best_factor.set(better.where(factor, best_factor.get()))
    return Symmetric(empty.where(0.0, scale.get()), empty.where(0.0, best_factor.get()), empty)


def first_largest(elements: list[Lanes], at_least: float = ALL_ZERO) -> tuple[Lanes, Lanes]:
    """The element of largest magnitude, the first of several; and a mask of lanes where that is below ``at_least``, in
    which it is replaced by 1."""
    peak = largest = elements[0].filled(0.0)
    for values in elements:
        magnitude = abs(values)
        larger = magnitude > peak
        peak, largest = larger.where(magnitude, peak), larger.where(values, largest)
    empty = peak < at_least
    return empty.where(1.0, largest), empty


class Candidates(NamedTuple):
    """The search spreads a sub-block over ``levels + first + i * step`` quants, i from 0 to ``number - 1``."""

    first: float
    step: float
    number: int


WITH_IMPORTANCE = Candidates(-0.9, 0.05, 37)


class Affine(NamedTuple):
    """Per lane: an element is about ``scale * quant - minimum``. Quants were found as ``(element - origin) * factor``.

    ``unfit`` marks lanes where a quotient was so large that ggml rounds it to something else than the nearest.
    """

    scale: Lanes
    minimum: Lanes
    factor: Lanes
    origin: Lanes
    unfit: Lanes

    def quants(self, values: Lanes, levels: int) -> Lanes:
        """int32 from 0 to ``levels``."""
        return _quants(values, self.origin, self.factor, levels).truncated()


def _quants(values: Lanes, origin: Lanes, factor: Lanes, levels: int) -> Lanes:
    return (factor * (values - origin)).rounded().at_least(0.0).at_most(float(levels))


def search_affine(
    x: Source,
    elements: list[Lanes],
    weights: list[Lanes],
    levels: int,
    candidates: Candidates,
    absolute: bool = False,
) -> Affine:
    """Scale and minimum of each lane that lose least.

    Each candidate spread gives quants, which give scale and minimum by linear regression; what is better than all
    before also becomes the minimum from which later candidates start.

    Args:
        x: where to put the loop over candidates.
        elements: float32 per element of a sub-block, one sub-block per lane.
        weights: of the elements' errors.
        levels: quants go from 0 to ``levels``.
        candidates: the spreads to try.
        absolute: errors count by their magnitude instead of their square.
    """
    lowest = highest = elements[0]
    weight_sum, element_sum = weights[0], weights[0] * elements[0]
    for values, weight in zip(elements[1:], weights[1:], strict=True):
        lowest, highest = values.at_most(lowest), values.at_least(highest)
        weight_sum, element_sum = weight_sum + weight, element_sum + weight * values
    start = (lowest > 0.0).where(0.0, lowest)
    flat = highest.equals(start)
    zero = start.filled(0.0)

    def error(quants: list[Lanes], scale: Lanes, minimum: Lanes) -> Lanes:
        total = zero
        for values, weight, quant in zip(elements, weights, quants, strict=True):
            difference = scale * quant + minimum - values
            total = total + weight * (abs(difference) if absolute else difference * difference)
        return total

    def fits(factor: Lanes, minimum: Lanes) -> Lanes:
        top, bottom = abs(factor * (highest - minimum)), abs(factor * (lowest - minimum))
        return (top < _ROUNDED_SAFELY) & (bottom < _ROUNDED_SAFELY)

    factor = float(levels) / (highest - start)
    quants = [_quants(values, start, factor, levels) for values in elements]
    scale, minimum, best = Variable(1.0 / factor), Variable(start), Variable(error(quants, 1.0 / factor, start))
    best_factor, origin, fit = Variable(factor), Variable(start), Variable(fits(factor, start) | flat)
    with x.repeat(candidates.number) as index:
        spread = index.floats() * candidates.step + candidates.first + float(levels)
        before = minimum.get()
        factor = spread / (highest - before)
        fit.set(fit.get() & (fits(factor, before) | flat))
        quants, quant_sum, squares, products = [], zero, zero, zero
        for values, weight in zip(elements, weights, strict=True):
            quant = _quants(values, before, factor, levels)
            weighted = weight * quant
            quant_sum = quant_sum + weighted
            squares = squares + weighted * quant
            products = products + weighted * values
            quants.append(quant)
        determinant = weight_sum * squares - quant_sum * quant_sum
        slope = (weight_sum * products - element_sum * quant_sum) / determinant
        intercept = (squares * element_sum - quant_sum * products) / determinant
        positive = intercept > 0.0
        slope, intercept = positive.where(products / squares, slope), positive.where(0.0, intercept)
        loss = error(quants, slope, intercept)
        better = (determinant > 0.0) & (loss < best.get())
        for variable, value in ((best, loss), (scale, slope), (minimum, intercept), (best_factor, factor)):
            variable.set(better.where(value, variable.get()))
        origin.set(better.where(before, origin.get()))
    return Affine(
        flat.where(0.0, scale.get()),
        flat.where(start, minimum.get()).negated(),
        flat.where(0.0, best_factor.get()),
        flat.where(0.0, origin.get()),
        fit.get().inverted(),
    )


def search_positive(x: Source, elements: list[Lanes], weights: list[Lanes], levels: int) -> tuple[Lanes, list[Lanes]]:
    """Scales of numbers that are not negative, and their quants: as a rule from 0 to ``levels``, int32 from 0 to 255.

    First the best of nine spreads; then quants change one by one as long as that helps. Negative numbers, which come
    from roundings only, leave the range of quants as they do in ggml.

    Args:
        x: where to put the loops.
        elements: float32 per number, one search per lane.
        weights: of the numbers' squared errors.
        levels: the largest quant.
    """
    zero = elements[0].filled(0.0)
    peak = zero
    for values in elements:
        peak = (peak > values).where(peak, values)
    empty = peak < ALL_ZERO
    peak = empty.where(1.0, peak)
    best, best_factor = Variable(zero), Variable(zero)
    with x.repeat(9) as index:
        step = index - (index > 4).where(4, 5)  # 0 first, then -4 to -1, then 1 to 4
        first = index.equals(0)
        factor = (first.where(0, step).floats() * 0.1 + float(levels)) / peak
        scale = 1.0 / factor
        loss = zero
        for values, weight in zip(elements, weights, strict=True):
            quants = (factor * values).nearest_integer()
            quants = first.where(quants & 255, quants.at_most(levels))
            difference = values - scale * quants.floats()
            loss = loss + weight * difference * difference
        better = (loss < best.get()) | first
        best.set(better.where(loss, best.get()))
        best_factor.set(better.where(factor, best_factor.get()))

    chosen = [(best_factor.get() * values).nearest_integer().at_most(levels) for values in elements]
    refined = _Refinement(elements, weights, chosen, 255)
    refined.improve(x, -(2**22), levels, among_positive=True)
    return empty.where(0.0, refined.scale()), [empty.where(0, quant.get()) for quant in refined.quants]


def refine_symmetric(x: Source, elements: list[Lanes], levels: int) -> tuple[Lanes, list[Lanes]]:
    """Scale of each lane and quants, int32 from 0 to ``2 * levels - 1``, both 0 in lanes that are all zero.

    The element of largest magnitude, the first of several, starts at ``-levels``; then quants change one by one as
    long as that lessens the loss, errors weighted by the elements' squares.
    """
    largest, empty = first_largest(elements)
    factor = -float(levels) / largest
    start = [(factor * values).nearest_integer().at_most(levels - 1).at_least(-levels) for values in elements]
    refined = _Refinement(elements, [values * values for values in elements], start, -1)
    refined.improve(x, -levels, levels - 1, among_positive=False)
    quants = [empty.where(0, quant.get() + levels) for quant in refined.quants]
    return empty.where(0.0, refined.scale()), quants


class _Refinement:
    """Quants of one lane's elements, and the sums that make the scale that fits them best.

    Args:
        start: int32 per element.
        kept: the bits of a quant that are kept from one pass to the next.
    """

    def __init__(self, elements: list[Lanes], weights: list[Lanes], start: list[Lanes], kept: int) -> None:
        self.elements, self.weights, self.kept = elements, weights, kept
        products = squares = elements[0].filled(0.0)
        for values, weight, quants in zip(elements, weights, start, strict=True):
            products = products + weight * values * quants.floats()
            squares = squares + weight * quants.floats() * quants.floats()
        self.products, self.squares = Variable(products), Variable(squares)
        self.quants = [Variable(quants & kept) for quants in start]

    def scale(self) -> Lanes:
        squares = self.squares.get()
        return (squares > 0.0).where(self.products.get() / squares, 0.0)

    def improve(self, x: Source, lowest: int, highest: int, among_positive: bool) -> None:
        """Five times, move each quant to where the scale of all others puts it, if that lessens the loss."""

        def better(values: Lanes, weight: Lanes, quant: Lanes) -> Lanes:
            products, squares, now = self.products.get(), self.squares.get(), quant.floats()
            other_products = products - weight * values * now
            other_squares = squares - weight * now * now
            quotient = values * other_squares / other_products
            moved = quotient.nearest_integer().at_most(highest).at_least(lowest)
            new_products = other_products + weight * values * moved.floats()
            new_squares = other_squares + weight * moved.floats() * moved.floats()
            gain = new_products * new_products * squares > products * products * new_squares
            gain = gain & (other_products > 0.0) & (new_squares > 0.0) & moved.equals(quant).inverted()
            if among_positive:
                gain = gain & (other_squares > 0.0)
            self.products.set(gain.where(new_products, products))
            self.squares.set(gain.where(new_squares, squares))
            return gain.where(moved & self.kept, quant)

        with x.repeat(5):
            quants = mapped(better, self.elements, self.weights, [quant.get() for quant in self.quants])
            for variable, quant in zip(self.quants, quants, strict=True):
                variable.set(quant)
