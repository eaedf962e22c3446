"""``struct ggml_tensor`` of ggml.h, as the evaluation callback of llama.cpp receives it.

ggml exports no functions for an operation's operands, so the structure is declared here; :func:`operations` proves on
tensors made by ggml itself that the installed library lays it out like this.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from converter.imatrix.matrix import ImatrixError
from converter.quants.ggml import library_path

F32, I32 = 0, 26
DTYPES: dict[int, type[np.generic]] = {F32: np.float32, I32: np.int32}


class GgmlTensor(ctypes.Structure):
    """One tensor of a graph; dimensions and strides start with the innermost."""


GgmlTensor._fields_ = (
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(GgmlTensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
)


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class Operations(NamedTuple):
    """Numbers of ``enum ggml_op``: a matrix product, and one with a matrix chosen for each row."""

    mul_mat: int
    mul_mat_id: int


def values(tensor: Any) -> NDArray[Any]:
    """A view of a tensor's values, float32 or int32, in the shape that numpy would give it: innermost last.

    Args:
        tensor: GgmlTensor in the processor's memory; the view is valid as long as its values are.
    """
    shape, strides = tuple(tensor.ne)[::-1], tuple(tensor.nb)[::-1]
    dtype = np.dtype(DTYPES[tensor.type])
    span = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) + dtype.itemsize
    buffer = (ctypes.c_char * span).from_address(tensor.data)
    return np.ndarray(shape, dtype, buffer, strides=strides)


def weight_name(tensor: Any) -> str:
    """A weight's name without what a scheduler puts around it: ``CUDA0#blk.0.attn_k.weight#0`` is a copy."""
    name: str = tensor.name.decode("utf-8", "replace")
    return name.split("#")[1] if "#" in name else name


def operations() -> Operations:
    """Let ggml make three operands and two products, and find all of it in the structure.

    Raises:
        ImatrixError: the installed ggml lays the structure out otherwise.
    """
    ggml = ctypes.CDLL(str(library_path()))
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    for name, arguments in (
        ("init", (_InitParams,)),
        ("new_tensor_2d", (pointer, ctypes.c_int, size, size)),
        ("new_tensor_3d", (pointer, ctypes.c_int, size, size, size)),
        ("set_name", (pointer, ctypes.c_char_p)),
        ("mul_mat", (pointer, pointer, pointer)),
        ("mul_mat_id", (pointer, pointer, pointer, pointer)),
        ("get_data", (pointer,)),
    ):
        function = getattr(ggml, f"ggml_{name}")
        function.argtypes, function.restype = arguments, pointer
    ggml.ggml_free.argtypes, ggml.ggml_free.restype = (pointer,), None
    context = ggml.ggml_init(_InitParams(1 << 16, None, False))
    try:
        experts = ggml.ggml_new_tensor_3d(context, F32, 32, 5, 4)
        one = ggml.ggml_new_tensor_2d(context, F32, 32, 7)
        rows = ggml.ggml_new_tensor_3d(context, F32, 32, 1, 6)
        ids = ggml.ggml_new_tensor_2d(context, I32, 2, 6)
        ggml.ggml_set_name(experts, b"experts")
        plain = GgmlTensor.from_address(ggml.ggml_mul_mat(context, one, rows))
        chosen = GgmlTensor.from_address(ggml.ggml_mul_mat_id(context, experts, rows, ids))
        operand = GgmlTensor.from_address(experts)
        found = (
            [ctypes.addressof(source.contents) for source in chosen.src[:3]],
            [bool(source) for source in chosen.src[3:]],
            [plain.type, operand.type, chosen.src[2].contents.type],
            [list(operand.ne), list(operand.nb), list(chosen.ne)],
            [operand.op, operand.name, operand.data],
        )
        expected = (
            [experts, rows, ids],
            [False] * 7,
            [F32, F32, I32],
            [[32, 5, 4, 1], [4, 128, 640, 2560], [5, 2, 6, 1]],
            [0, b"experts", ggml.ggml_get_data(experts)],
        )
        if found != expected or plain.op == chosen.op:
            raise ImatrixError(
                "the installed llama-cpp-python lays out ggml's tensors otherwise than expected; install 0.3.36"
            )
        return Operations(plain.op, chosen.op)
    finally:
        ggml.ggml_free(context)
