"""From a function on :class:`~converter.quants.lanes.Lanes` to machine code that runs over all blocks of a matrix.

A kernel is a function that receives one block: where its elements are and where its bytes go. It runs once, and what
it computes becomes the body of a loop over all blocks::

    @block_kernel(32, 34)
    def q8_0(x: Source, out: Target) -> None:
        values = x.load(0, 32)
        scale = abs(values).max() / 127.0
        ...

Why not numpy: it passes over memory once for every operation, which keeps it below ggml's C. Why not numba: its
vectorizer leaves loops over the 32 elements of a block scalar, and importing it and its cached code takes 0.3 s,
longer than compiling one of these kernels afresh.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from converter.quants.lanes import F32, I8, I16, I32, I64, Lanes, loop

_POINTER = ir.PointerType()
_ROWS = 16  # of a block that is given in rows


class Source:
    """The float32 elements of one block, and the importance of their columns.

    Attributes:
        position: int64, index of the block's first element among all elements of the matrix.
        row_length: int64.
    """

    def __init__(
        self, builder: Any, elements: Any, importance: Any, row_sums: Any, position: Lanes, row_length: Lanes
    ) -> None:
        self.builder = builder
        self.position = position
        self.row_length = row_length
        self._elements, self._importance, self._row_sums = elements, importance, row_sums

    def _loaded(self, pointer: Any, index: Lanes | int, count: int) -> Lanes:
        address = self.builder.gep(pointer, [_index(index)], source_etype=F32)
        kind = ir.VectorType(F32, count) if count > 1 else F32
        return Lanes(self.builder, self.builder.load(address, align=4, typ=kind))

    def load(self, start: Lanes | int, count: int) -> Lanes:
        """``count`` elements from index ``start`` on; a computed index is an int64 scalar."""
        return self._loaded(self._elements, start, count)

    def importance(self, start: int, count: int) -> Lanes:
        """The weights of the columns of ``count`` elements, all in one row, from element ``start`` on."""
        column = self.builder.urem((self.position + start).value, self.row_length.value)
        return self._loaded(self._importance, Lanes(self.builder, column), count)

    def row_sum(self, start: int) -> Lanes:
        """The number that the caller has given for the row of element ``start``."""
        row = self.builder.udiv((self.position + start).value, self.row_length.value)
        return self._loaded(self._row_sums, Lanes(self.builder, row), 1)

    @contextmanager
    def repeat(self, times: int | Lanes) -> Iterator[Lanes]:
        """A loop; ``with x.repeat(18) as i`` gives its index, a scalar from 0 on, int32 or as a computed ``times``."""
        with loop(self.builder, times.value if isinstance(times, Lanes) else I32(times)) as index:
            yield Lanes(self.builder, index)


class Target:
    """The bytes of one block."""

    def __init__(self, builder: Any, pointer: Any) -> None:
        self.builder = builder
        self.pointer = pointer

    def store(self, offset: int, lanes: Lanes) -> None:
        """Write lanes, little endian, from byte ``offset`` on."""
        address = self.builder.gep(self.pointer, [I64(offset)], source_etype=I8)
        self.builder.store(lanes.value, address, align=1)


class Block:
    """The bytes of one block, to be read back."""

    def __init__(self, builder: Any, pointer: Any) -> None:
        self.builder = builder
        self.pointer = pointer

    def _loaded(self, offset: int, kind: Any) -> Lanes:
        address = self.builder.gep(self.pointer, [I64(offset)], source_etype=I8)
        return Lanes(self.builder, self.builder.load(address, align=1, typ=kind))

    def load(self, offset: int, count: int) -> Lanes:
        """``count`` bytes from byte ``offset`` on."""
        return self._loaded(offset, ir.VectorType(I8, count) if count > 1 else I8)

    def short(self, offset: int) -> Lanes:
        """Two bytes as one integer."""
        return self._loaded(offset, I16)

    def word(self, offset: int) -> Lanes:
        """Four bytes as one integer."""
        return self._loaded(offset, I32)


#: A body may return a mask: where it is set, arithmetic has left the range that the body is right for.
Body = Callable[[Source, Target], Lanes | None]
Rows = NDArray[np.float32]


class _Machine:
    """A function in machine code, compiled at its first call, once for all threads.

    Args:
        assembly: gives LLVM's assembly of ``kernel``, whose arguments are so many pointers and then int64 numbers.
    """

    def __init__(self, assembly: Callable[[], str], pointers: int, numbers: int) -> None:
        self._assembly = assembly
        self._prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * pointers, *[ctypes.c_int64] * numbers)
        self._lock = threading.Lock()
        self._run: Callable[..., None] | None = None
        self._engine: Any = None  # owns the machine code

    def __call__(self, *arguments: int | None) -> None:
        """Run it; the GIL is released meanwhile."""
        with self._lock:
            if self._run is None:
                self._engine = _compiled(self._assembly())
                self._run = self._prototype(self._engine.get_function_address("kernel"))
        self._run(*arguments)


class BlockKernel:
    """A kernel for any number of elements."""

    def __init__(
        self, body: Body, elements: int | None, size: int, row_sums: Callable[[Rows], Rows] | None = None
    ) -> None:
        self.body = body
        self.elements = elements
        self.size = size
        self.row_sums = row_sums
        self._machine = _Machine(lambda: _assembly(body, size), 5, 4)

    def __call__(self, rows: Rows, out: NDArray[np.uint8], importance: Rows | None = None) -> NDArray[np.intp]:
        """Fill ``out`` from ``rows``, both C-contiguous. The GIL is released while the machine code runs.

        Args:
            rows: float32 (n, row_length).
            out: uint8 (n, row_bytes).
            importance: float32 (row_length,), for kernels that use it.

        Returns:
            Indices of the rows with a block that the kernel is not right for.
        """
        n, row_length = rows.shape
        elements = self.elements or _ROWS * row_length
        blocks, rest = divmod(rows.size, elements)
        unfit = np.zeros(blocks + 1, np.bool_)
        sums = np.zeros(n + elements // 32, np.float32)  # a block that is filled up reaches beyond the last row
        if self.row_sums is not None:
            sums[:n] = self.row_sums(rows)
        weights = None if importance is None else importance.ctypes.data

        def run(source: Rows, target: NDArray[np.uint8], first: int, times: int) -> None:
            pointers = (array.ctypes.data for array in (source, target, unfit[first:]))
            self._machine(*pointers, weights, sums.ctypes.data, first * elements, row_length, elements, times)

        run(rows, out, 0, blocks)
        if rest:
            values, data = np.zeros(elements, np.float32), np.empty(self.size, np.uint8)
            values[:rest] = rows.reshape(-1)[-rest:]
            run(values, data, blocks, 1)
            out.reshape(-1)[blocks * self.size :] = data[: rest * self.size // elements]
        starts = np.flatnonzero(unfit) * elements
        touched = [np.arange(at // row_length, min(n, -(-(at + elements) // row_length))) for at in starts]
        return np.unique(np.concatenate(touched)) if touched else starts


def block_kernel(
    elements: int | None, size: int, row_sums: Callable[[Rows], Rows] | None = None
) -> Callable[[Body], Any]:
    """Decorator: a kernel from blocks of float32 to blocks of bytes.

    Several blocks of a type may be one of the kernel's, which then runs on them side by side.

    Args:
        elements: of a block; None for sixteen rows.
        size: bytes that a block becomes.
        row_sums: gives a number for each row, for :meth:`Source.row_sum`.
    """
    return lambda body: BlockKernel(body, elements, size, row_sums)


class Decoder:
    """A kernel from bytes back to values."""

    def __init__(self, body: Callable[[Block, Target], None], size: int, elements: int) -> None:
        self.body = body
        self.size = size
        self.elements = elements
        self._machine = _Machine(lambda: _decoder_assembly(body, size, elements), 2, 1)

    def __call__(self, data: NDArray[np.uint8], out: Rows) -> None:
        """Fill ``out``, float32 (n, row_length), from ``data``, uint8 (n, row_bytes), both C-contiguous."""
        self._machine(data.ctypes.data, out.ctypes.data, data.size // self.size)


def decoder(size: int, elements: int) -> Callable[[Callable[[Block, Target], None]], Decoder]:
    """Decorator: a kernel from blocks of ``size`` bytes to blocks of ``elements`` float32."""
    return lambda body: Decoder(body, size, elements)


def _index(index: Lanes | int) -> Any:
    return index.value if isinstance(index, Lanes) else I64(index)


def _assembly(body: Body, size: int) -> str:
    """LLVM's assembly of the loop over blocks::

    void kernel(const float *rows, uint8_t *out, bool *unfit, const float *importance, const float *row_sums,
                int64_t first_position, int64_t row_length, int64_t elements, int64_t blocks)
    """
    module = ir.Module()
    kinds = [_POINTER] * 5 + [I64] * 4
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), "kernel")
    rows, out, unfit, importance, row_sums, first, row_length, elements, blocks = function.args
    for pointer in function.args[:5]:
        pointer.add_attribute("noalias")
    builder = ir.IRBuilder(function.append_basic_block())
    with (
        builder.if_then(builder.icmp_signed(">", blocks, I64(0))),
        loop(builder, blocks) as index,
    ):
        offset = builder.mul(index, elements)
        position = Lanes(builder, builder.add(first, offset))
        source = builder.gep(rows, [offset], source_etype=F32)
        target = builder.gep(out, [builder.mul(index, I64(size))], source_etype=I8)
        x = Source(builder, source, importance, row_sums, position, Lanes(builder, row_length))
        mask = body(x, Target(builder, target))
        if mask is not None:
            byte = builder.zext(mask.any().value, I8)
            builder.store(byte, builder.gep(unfit, [index], source_etype=I8))
    builder.ret_void()
    return str(module)


def _decoder_assembly(body: Callable[[Block, Target], None], size: int, elements: int) -> str:
    """LLVM's assembly of ``void kernel(const uint8_t *data, float *out, int64_t blocks)``."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_POINTER, _POINTER, I64]), "kernel")
    data, out, blocks = function.args
    for pointer in function.args[:2]:
        pointer.add_attribute("noalias")
    builder = ir.IRBuilder(function.append_basic_block())
    with (
        builder.if_then(builder.icmp_signed(">", blocks, I64(0))),
        loop(builder, blocks) as index,
    ):
        source = builder.gep(data, [builder.mul(index, I64(size))], source_etype=I8)
        target = builder.gep(out, [builder.mul(index, I64(elements))], source_etype=F32)
        body(Block(builder, source), Target(builder, target))
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
