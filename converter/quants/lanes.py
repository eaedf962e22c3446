"""Arithmetic on vectors of lanes, the language that kernels are written in.

Every operator appends an instruction of LLVM to the kernel being built. Operations are neither reordered nor fused, so
results are those of C compiled without fast-math and without FMA. LLVM cuts a vector of any length into the registers
that the processor has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir

I1, I8, I16, I32, I64 = (ir.IntType(width) for width in (1, 8, 16, 32, 64))
F32 = ir.FloatType()
_FLOAT_MAX = float(np.finfo(np.float32).max)
_TO_INTEGER = 12582912.0  # 1.5 * 2**23: adding it leaves no bits for a fraction


class _Splat(ir.Constant):  # type: ignore[misc]
    """One constant in every lane, in LLVM's short form."""

    def __init__(self, kind: Any, constant: Any) -> None:
        self.type = kind
        self.constant = constant

    def _get_reference(self) -> str:
        return f"splat ({self.constant})"


@cache
def _shuffle_mask(indices: tuple[int, ...]) -> Any:
    return ir.Constant(ir.VectorType(I32, len(indices)), indices)


class Lanes:
    """float32 values or integers side by side. A single one is a scalar and stretches to the length of its partner.

    Operators act lane by lane; a Python number stands for a constant. Comparisons take integers as signed and give a
    mask, ``>>`` shifts zeros in.
    """

    __slots__ = ("builder", "value")

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    def __len__(self) -> int:
        return self.value.type.count if isinstance(self.value.type, ir.VectorType) else 1

    @property
    def element(self) -> Any:
        """LLVM type of one lane."""
        return self.value.type.element if isinstance(self.value.type, ir.VectorType) else self.value.type

    def _same_length(self, element: Any) -> Any:
        return ir.VectorType(element, len(self)) if len(self) > 1 else element

    def spread(self, count: int) -> Lanes:
        """A single lane as ``count`` equal ones; so many already are left alone."""
        if len(self) == count:
            return self
        assert len(self) == 1
        empty = ir.Constant(ir.VectorType(self.element, count), ir.Undefined)
        return Lanes(self.builder, self.builder.insert_element(empty, self.value, I32(0))).pick([0] * count)

    def _pair(self, other: Lanes | float) -> tuple[Any, Any]:
        """Both operands as LLVM values of one length."""
        if not isinstance(other, Lanes):
            constant = ir.Constant(self.element, other)
            if len(self) > 1:
                constant = _Splat(self.value.type, constant)
            return self.value, constant
        count = max(len(self), len(other))
        return self.spread(count).value, other.spread(count).value

    def _combined(self, other: Lanes | float, of_floats: str, of_integers: str) -> Lanes:
        operation = of_floats if self.element == F32 else of_integers
        return Lanes(self.builder, getattr(self.builder, operation)(*self._pair(other)))

    def __add__(self, other: Lanes | float) -> Lanes:
        return self._combined(other, "fadd", "add")

    def __sub__(self, other: Lanes | float) -> Lanes:
        return self._combined(other, "fsub", "sub")

    def __mul__(self, other: Lanes | float) -> Lanes:
        return self._combined(other, "fmul", "mul")

    def __truediv__(self, other: Lanes | float) -> Lanes:
        return self._combined(other, "fdiv", "")

    def __rtruediv__(self, other: float) -> Lanes:
        return Lanes(self.builder, self._pair(other)[1]) / self

    def __and__(self, other: Lanes | int) -> Lanes:
        return self._combined(other, "", "and_")

    def __or__(self, other: Lanes | int) -> Lanes:
        return self._combined(other, "", "or_")

    def __xor__(self, other: Lanes | int) -> Lanes:
        return self._combined(other, "", "xor")

    def __lshift__(self, other: int) -> Lanes:
        return self._combined(other, "", "shl")

    def __rshift__(self, other: int) -> Lanes:
        return self._combined(other, "", "lshr")

    def __abs__(self) -> Lanes:
        return (self.bits() & 0x7FFFFFFF).as_floats()

    def _compared(self, operator: str, other: Lanes | float) -> Lanes:
        compare = self.builder.fcmp_ordered if self.element == F32 else self.builder.icmp_signed
        return Lanes(self.builder, compare(operator, *self._pair(other)))

    def __gt__(self, other: Lanes | float) -> Lanes:
        return self._compared(">", other)

    def __lt__(self, other: Lanes | float) -> Lanes:
        return self._compared("<", other)

    def __le__(self, other: Lanes | float) -> Lanes:
        return self._compared("<=", other)

    def __ge__(self, other: Lanes | float) -> Lanes:
        return self._compared(">=", other)

    def equals(self, other: Lanes | float) -> Lanes:
        return self._compared("==", other)

    def is_number(self) -> Lanes:
        """Mask of the lanes that are not NaN."""
        return self.equals(self)

    def is_finite(self) -> Lanes:
        return abs(self) <= _FLOAT_MAX

    def where(self, yes: Lanes | float, no: Lanes | float) -> Lanes:
        """Of a mask: lanes of ``yes`` where it is set, of ``no`` elsewhere. Two numbers give float32 or int32."""
        model = next((lanes for lanes in (yes, no) if isinstance(lanes, Lanes)), None)
        if model is None:
            model = Lanes(self.builder, ir.Constant(I32 if isinstance(yes, int) else F32, 0))
        count = max(len(lanes) for lanes in (self, yes, no) if isinstance(lanes, Lanes))
        model = model.spread(count)
        chosen = self.builder.select(self.spread(count).value, model._pair(yes)[1], model._pair(no)[1])
        return Lanes(self.builder, chosen)

    def filled(self, number: float) -> Lanes:
        """A constant of this type and length."""
        return Lanes(self.builder, self._pair(number)[1])

    def at_most(self, limit: Lanes | float) -> Lanes:
        return (self < limit).where(self, limit)

    def at_least(self, limit: Lanes | float) -> Lanes:
        return (self > limit).where(self, limit)

    def packed(self) -> Lanes:
        """Of a mask: its bits as one integer, the first lane lowest."""
        return Lanes(self.builder, self.builder.bitcast(self.value, ir.IntType(len(self))))

    def first(self) -> Lanes:
        """Of a mask with a power of two lanes: index of the first that is set, an int64; 0 if none is."""
        zeros_below = self.builder.cttz(self.packed().value, I1(0))
        return Lanes(self.builder, self.builder.zext(zeros_below, I64)) & (len(self) - 1)

    def _converted(self, operation: str, element: Any) -> Lanes:
        return Lanes(self.builder, getattr(self.builder, operation)(self.value, self._same_length(element)))

    def any(self) -> Lanes:
        """Of a mask: a mask of one lane, set if any is."""
        bits = self.packed().value
        return Lanes(self.builder, self.builder.icmp_unsigned("!=", bits, bits.type(0)))

    def root(self) -> Lanes:
        """Square root, correctly rounded."""
        return Lanes(self.builder, self.builder.call(_square_root(self.builder, self.value.type), [self.value]))

    def rounded(self) -> Lanes:
        """Nearest whole number, ties to even, still float32; for magnitudes below 2**22."""
        return (self + _TO_INTEGER) - _TO_INTEGER

    def nearest_integer(self) -> Lanes:
        """float32 to int32 as ggml's ``nearest_int``: its low 23 bits for what is too large, zero for NaN."""
        integers = ((self + _TO_INTEGER).bits() & 0x7FFFFF) - 0x400000
        return self.is_number().where(integers, 0)

    def bits(self) -> Lanes:
        """float32 reinterpreted as int32."""
        return self._converted("bitcast", I32)

    def as_floats(self) -> Lanes:
        """int32 reinterpreted as float32."""
        return self._converted("bitcast", F32)

    def truncated(self) -> Lanes:
        """float32 rounded toward zero to int32; undefined for a lane that does not fit."""
        return self._converted("fptosi", I32)

    def floats(self) -> Lanes:
        """int32 converted to float32."""
        return self._converted("sitofp", F32)

    def integers(self) -> Lanes:
        """Bytes or int16 widened to int32, without sign."""
        return self._converted("zext", I32)

    def signed(self) -> Lanes:
        """Bytes widened to int32, with their sign."""
        return self._converted("sext", I32)

    def unpacked(self) -> Lanes:
        """An int32 as a mask of 32 lanes, the lowest bit first."""
        return Lanes(self.builder, self.builder.bitcast(self.value, ir.VectorType(I1, 32)))

    def bytes(self) -> Lanes:
        """Low 8 bits."""
        return self._converted("trunc", I8)

    def shorts(self) -> Lanes:
        """Low 16 bits."""
        return self._converted("trunc", I16)

    def pick(self, indices: Sequence[int], other: Lanes | None = None) -> Lanes:
        """The lanes at ``indices``, counted through ``self`` and then ``other``."""
        mask = _shuffle_mask(tuple(indices))
        return Lanes(self.builder, self.builder.shuffle_vector(self.value, (other or self).value, mask))

    def lane(self, index: Lanes | int) -> Lanes:
        position = index.value if isinstance(index, Lanes) else I64(index)
        return Lanes(self.builder, self.builder.extract_element(self.value, position))

    def joined(self, other: Lanes) -> Lanes:
        """These lanes and then those of ``other``, as many."""
        return self.pick(range(2 * len(self)), other)

    def negated(self) -> Lanes:
        """float32 with the other sign, of zeros too."""
        return (self.bits() ^ -0x80000000).as_floats()

    def negative(self) -> Lanes:
        """Integers with the other sign."""
        return self.filled(0) - self

    def inverted(self) -> Lanes:
        """Of a mask: set where it was not."""
        return Lanes(self.builder, self.builder.not_(self.value))

    def halves(self) -> tuple[Lanes, Lanes]:
        """First and second half of the lanes."""
        count = len(self) // 2
        return (
            (self.pick(range(count)), self.pick(range(count, 2 * count))) if count > 1 else (self.lane(0), self.lane(1))
        )

    def max(self) -> Lanes:
        return self if len(self) == 1 else Lanes.at_least(*self.halves()).max()

    def min(self) -> Lanes:
        return self if len(self) == 1 else Lanes.at_most(*self.halves()).min()


class Variable:
    """A value that changes while a loop runs."""

    def __init__(self, initial: Lanes) -> None:
        self.builder = initial.builder
        self.type = initial.value.type
        with self.builder.goto_entry_block():
            self.place = self.builder.alloca(self.type)
        self.set(initial)

    def get(self) -> Lanes:
        return Lanes(self.builder, self.builder.load(self.place, typ=self.type))

    def set(self, lanes: Lanes) -> None:
        self.builder.store(lanes.value, self.place)


def transposed(vectors: Sequence[Lanes]) -> list[Lanes]:
    """n vectors of n lanes, n a power of two: lane i of vector j becomes lane j of vector i."""
    vectors, count = list(vectors), len(vectors)
    low = [lane + half * count for lane in range(count // 2) for half in (0, 1)]
    high = [lane + count // 2 for lane in low]
    for _ in range(count.bit_length() - 1):
        pairs = list(zip(vectors[: count // 2], vectors[count // 2 :], strict=True))
        vectors = [first.pick(half, second) for first, second in pairs for half in (low, high)]
    return vectors


def side_by_side(scalars: Sequence[Lanes]) -> Lanes:
    """Single lanes as one vector."""
    builder = scalars[0].builder
    value = ir.Constant(ir.VectorType(scalars[0].element, len(scalars)), ir.Undefined)
    for position, scalar in enumerate(scalars):
        value = builder.insert_element(value, scalar.value, I32(position))
    return Lanes(builder, value)


def column(vectors: Sequence[Lanes], lane: int) -> Lanes:
    """One lane of each vector, side by side."""
    return side_by_side([vector.lane(lane) for vector in vectors])


@contextmanager
def loop(builder: Any, times: Any) -> Iterator[Any]:
    """Repeat what is built inside, at least once; gives the index, of the type of ``times``."""
    before = builder.block
    body, after = builder.append_basic_block(), builder.append_basic_block()
    builder.branch(body)
    builder.position_at_end(body)
    index = builder.phi(times.type)
    index.add_incoming(times.type(0), before)
    yield index
    following = builder.add(index, times.type(1))
    index.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_unsigned("!=", following, times), body, after)
    builder.position_at_end(after)


def mapped(function: Callable[..., Lanes], *vectors: Sequence[Lanes]) -> list[Lanes]:
    """``function`` of the first vector of each sequence, of the second of each, and so on.

    The vectors pass through memory, so that four calls are compiled and not as many as there are vectors: a multiple
    of four.
    """
    builder, count = vectors[0][0].builder, len(vectors[0])

    def array_of(kind: Any) -> Any:
        with builder.goto_entry_block():
            return builder.alloca(kind, size=count)

    arrays = [array_of(sequence[0].value.type) for sequence in vectors]
    for array, sequence in zip(arrays, vectors, strict=True):
        for index, vector in enumerate(sequence):
            builder.store(vector.value, builder.gep(array, [I32(index)]))
    results: Any = None
    with loop(builder, I32(count // 4)) as four:
        for step in range(4):
            index = builder.add(builder.mul(four, I32(4)), I32(step))
            result = function(*[Lanes(builder, builder.load(builder.gep(array, [index]))) for array in arrays]).value
            results = results or array_of(result.type)
            builder.store(result, builder.gep(results, [index]))
    return [Lanes(builder, builder.load(builder.gep(results, [I32(index)]))) for index in range(count)]


def _square_root(builder: Any, kind: Any) -> Any:
    """The intrinsic function of LLVM for float32 or a vector of them."""
    suffix = f"v{kind.count}f32" if isinstance(kind, ir.VectorType) else "f32"
    name = f"llvm.sqrt.{suffix}"
    return builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(kind, (kind,)), name)
