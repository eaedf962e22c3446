"""Kernels written as arithmetic on vectors of lanes, compiled by LLVM for the processor at hand.

A kernel is a function that receives one block: where its elements are and where its bytes go. It runs once, with
:class:`Lanes` for values, and what it computes becomes the body of a loop over all blocks::

    @block_kernel(32, 34)
    def q8_0(x: Source, out: Target) -> None:
        values = x.load(0, 32)
        scale = abs(values).max() / 127.0
        ...

Why not numpy: it passes over memory once for every operation, which keeps it below ggml's C. Why not numba: its
vectorizer leaves loops over the 32 elements of a block scalar, and importing it and its cached code takes 0.3 s, ten
times as long as compiling one of these kernels afresh.

Operations are neither reordered nor fused, so results are those of C compiled without fast-math and without FMA.
LLVM cuts a vector of any length into the registers that the processor has.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

_I1, _I8, _I16, _I32, _I64 = (ir.IntType(width) for width in (1, 8, 16, 32, 64))
_F32 = ir.FloatType()
_POINTER = ir.PointerType()
_FLOAT_MAX = float(np.finfo(np.float32).max)


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

    def _stretched(self, count: int) -> Lanes:
        if len(self) == count:
            return self
        assert len(self) == 1
        empty = ir.Constant(ir.VectorType(self.element, count), ir.Undefined)
        return Lanes(self.builder, self.builder.insert_element(empty, self.value, _I32(0))).pick([0] * count)

    def _pair(self, other: Lanes | float) -> tuple[Any, Any]:
        """Both operands as LLVM values of one length."""
        if not isinstance(other, Lanes):
            constant = ir.Constant(self.element, other)
            return self.value, constant if len(self) == 1 else ir.Constant(self.value.type, [constant] * len(self))
        count = max(len(self), len(other))
        return self._stretched(count).value, other._stretched(count).value

    def _combined(self, other: Lanes | float, of_floats: str, of_integers: str) -> Lanes:
        operation = of_floats if self.element == _F32 else of_integers
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

    def __lshift__(self, other: int) -> Lanes:
        return self._combined(other, "", "shl")

    def __rshift__(self, other: int) -> Lanes:
        return self._combined(other, "", "lshr")

    def __abs__(self) -> Lanes:
        return (self.bits() & 0x7FFFFFFF).as_floats()

    def _compared(self, operator: str, other: Lanes | float) -> Lanes:
        compare = self.builder.fcmp_ordered if self.element == _F32 else self.builder.icmp_signed
        return Lanes(self.builder, compare(operator, *self._pair(other)))

    def __gt__(self, other: Lanes | float) -> Lanes:
        return self._compared(">", other)

    def __lt__(self, other: Lanes | float) -> Lanes:
        return self._compared("<", other)

    def __le__(self, other: Lanes | float) -> Lanes:
        return self._compared("<=", other)

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
            model = Lanes(self.builder, ir.Constant(_I32 if isinstance(yes, int) else _F32, 0))
        count = max(len(lanes) for lanes in (self, yes, no) if isinstance(lanes, Lanes))
        model = model._stretched(count)
        chosen = self.builder.select(self._stretched(count).value, model._pair(yes)[1], model._pair(no)[1])
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
        zeros_below = self.builder.cttz(self.packed().value, _I1(0))
        return Lanes(self.builder, self.builder.zext(zeros_below, _I64)) & (len(self) - 1)

    def _converted(self, operation: str, element: Any) -> Lanes:
        return Lanes(self.builder, getattr(self.builder, operation)(self.value, self._same_length(element)))

    def bits(self) -> Lanes:
        """float32 reinterpreted as int32."""
        return self._converted("bitcast", _I32)

    def as_floats(self) -> Lanes:
        """int32 reinterpreted as float32."""
        return self._converted("bitcast", _F32)

    def truncated(self) -> Lanes:
        """float32 rounded toward zero to int32; undefined for a lane that does not fit."""
        return self._converted("fptosi", _I32)

    def floats(self) -> Lanes:
        """int32 converted to float32."""
        return self._converted("sitofp", _F32)

    def integers(self) -> Lanes:
        """int16 widened to int32, without sign."""
        return self._converted("zext", _I32)

    def bytes(self) -> Lanes:
        """Low 8 bits."""
        return self._converted("trunc", _I8)

    def shorts(self) -> Lanes:
        """Low 16 bits."""
        return self._converted("trunc", _I16)

    def pick(self, indices: Sequence[int], other: Lanes | None = None) -> Lanes:
        """The lanes at ``indices``, counted through ``self`` and then ``other``."""
        mask = ir.Constant(ir.VectorType(_I32, len(indices)), list(indices))
        return Lanes(self.builder, self.builder.shuffle_vector(self.value, (other or self).value, mask))

    def lane(self, index: Lanes | int) -> Lanes:
        position = index.value if isinstance(index, Lanes) else _I64(index)
        return Lanes(self.builder, self.builder.extract_element(self.value, position))

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


class Source:
    """The float32 elements of one block."""

    def __init__(self, builder: Any, pointer: Any) -> None:
        self.builder = builder
        self.pointer = pointer

    def load(self, start: Lanes | int, count: int) -> Lanes:
        """``count`` elements from index ``start`` on; a computed index is an int64 scalar."""
        index = start.value if isinstance(start, Lanes) else _I64(start)
        address = self.builder.gep(self.pointer, [index], source_etype=_F32)
        kind = ir.VectorType(_F32, count) if count > 1 else _F32
        return Lanes(self.builder, self.builder.load(address, align=4, typ=kind))

    @contextmanager
    def repeat(self, times: int) -> Iterator[Lanes]:
        """A loop; ``with x.repeat(18) as i`` gives its index, an int32 scalar from 0 on."""
        with _loop(self.builder, _I32(times)) as index:
            yield Lanes(self.builder, index)


class Target:
    """The bytes of one block."""

    def __init__(self, builder: Any, pointer: Any) -> None:
        self.builder = builder
        self.pointer = pointer

    def store(self, offset: int, lanes: Lanes) -> None:
        """Write lanes, little endian, from byte ``offset`` on."""
        address = self.builder.gep(self.pointer, [_I64(offset)], source_etype=_I8)
        self.builder.store(lanes.value, address, align=1)


Body = Callable[[Source, Target], None]


class BlockKernel:
    """A kernel for any number of elements. Compiled at its first call, once for all threads."""

    def __init__(self, body: Body, elements: int, size: int) -> None:
        self.body = body
        self.elements = elements
        self.size = size
        self._lock = threading.Lock()
        self._run: Callable[[int, int, int], None] | None = None
        self._engine: Any = None  # owns the machine code

    def __call__(self, rows: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
        """Fill ``out`` from ``rows``, both C-contiguous. The GIL is released while the machine code runs."""
        with self._lock:
            if self._run is None:
                self._engine = _compiled(_assembly(self.body, self.elements, self.size))
                prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
                self._run = prototype(self._engine.get_function_address("kernel"))
        blocks, rest = divmod(rows.size, self.elements)
        self._run(rows.ctypes.data, out.ctypes.data, blocks)
        if rest:
            # Only types that convert element by element have rows that end within a kernel's block.
            values, data = np.zeros(self.elements, np.float32), np.empty(self.size, np.uint8)
            values[:rest] = rows.reshape(-1)[-rest:]
            self._run(values.ctypes.data, data.ctypes.data, 1)
            out.reshape(-1)[blocks * self.size :] = data[: rest * self.size // self.elements]


def block_kernel(elements: int, size: int) -> Callable[[Body], BlockKernel]:
    """Decorator: a kernel from blocks of ``elements`` float32 to blocks of ``size`` bytes."""
    return lambda body: BlockKernel(body, elements, size)


@contextmanager
def _loop(builder: Any, times: Any) -> Iterator[Any]:
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


def _assembly(body: Body, elements: int, size: int) -> str:
    """LLVM's assembly of ``void kernel(const float *rows, uint8_t *out, int64_t blocks)``."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), (_POINTER, _POINTER, _I64)), "kernel")
    rows, out, blocks = function.args
    rows.add_attribute("noalias")
    out.add_attribute("noalias")
    builder = ir.IRBuilder(function.append_basic_block())
    with (
        builder.if_then(builder.icmp_signed(">", blocks, _I64(0))),
        _loop(builder, blocks) as index,
    ):
        source = builder.gep(rows, [builder.mul(index, _I64(elements))], source_etype=_F32)
        target = builder.gep(out, [builder.mul(index, _I64(size))], source_etype=_I8)
        body(Source(builder, source), Target(builder, target))
    builder.ret_void()
    return str(module)


def _compiled(assembly: str) -> Any:
    """An engine that holds the machine code of ``kernel``."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2
    )
    module = llvm.parse_assembly(assembly)
    module.verify()
    # The code is straight and in vectors already: the usual pipeline would double the time and gain nothing.
    passes = llvm.create_new_function_pass_manager()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.run(module.get_function("kernel"), llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine
