"""What PyTorch's pickles name: storages, types, and the functions that rebuild tensors, none of which is called.

The arguments of each function are those in https://github.com/pytorch/pytorch/blob/main/torch/_utils.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from converter.sources.source_file import quoted

_MAX_NAME = 1024


@dataclass(frozen=True)
class Storage:
    """Memory that tensors share.

    Attributes:
        key: its name in the file.
        dtype: type of its elements, None for bytes.
        count: elements, or bytes.
        view: a part that stands for the whole: its first element and how many there are.
    """

    key: str
    dtype: str | None
    count: int
    view: tuple[int, int] | None = None


@dataclass(frozen=True)
class StoredView:
    """A tensor as PyTorch saves it; ``offset`` and ``strides`` in elements of ``dtype``."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Global:
    """A name that the pickle may speak of; ``call`` is what stands for calling it."""

    name: str
    call: Callable[..., object] | None = None
    dtype: str | None = None


def size(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**60:
        raise ValueError(f"a size is {quoted(value) if isinstance(value, int) else type(value).__name__}")
    return value


def _sizes(values: object) -> tuple[int, ...]:
    if type(values) is not tuple or len(values) > 64:
        raise ValueError(f"sizes are a {type(values).__name__}")
    return tuple(map(size, values))


def text(value: object) -> str:
    """A short text, which Python 2 wrote as bytes."""
    if not isinstance(value, str | bytes):
        raise TypeError(f"a name is a {type(value).__name__}")
    if len(value) > _MAX_NAME:
        raise ValueError(f"a name is {len(value)} characters long")
    return value.decode("ascii") if isinstance(value, bytes) else value


def _view(storage: Storage, offset: object, shape: object, strides: object, of: object, metadata: object) -> StoredView:
    if not isinstance(storage, Storage) or metadata or not isinstance(of, Global | None):
        raise ValueError("a tensor is not plainly stored")
    dtype = storage.dtype if of is None else of.dtype
    sizes, steps = _sizes(shape), _sizes(strides)
    if dtype is None or len(sizes) != len(steps):
        raise ValueError(f"a tensor of type {dtype} has {len(sizes)} sizes and {len(steps)} strides")
    return StoredView(storage, dtype, size(offset), sizes, steps)


def _tensor(
    storage: Storage,
    offset: object,
    shape: object,
    strides: object,
    requires_grad: object = False,
    hooks: object = None,
    metadata: object = None,
) -> StoredView:
    """``torch._utils._rebuild_tensor`` and ``_v2``."""
    return _view(storage, offset, shape, strides, None, metadata)


def _typed_tensor(
    storage: Storage,
    offset: object,
    shape: object,
    strides: object,
    requires_grad: object,
    hooks: object,
    dtype: object,
    metadata: object = None,
) -> StoredView:
    """``torch._utils._rebuild_tensor_v3``, which names the type that its storage does not have."""
    return _view(storage, offset, shape, strides, dtype, metadata)


def _parameter(data: StoredView, *rest: object) -> StoredView:
    if not isinstance(data, StoredView):
        raise TypeError(f"a parameter is a {type(data).__name__}")
    return data


def _with_attributes(function: Global, kind: Global, arguments: tuple[Any, ...], state: object) -> StoredView:
    """``torch._tensor._rebuild_from_type_v2``, of tensors that carry Python attributes, which are left out."""
    if not isinstance(kind, Global) or kind.name not in ("torch.Tensor", "torch.nn.parameter.Parameter"):
        raise TypeError("a tensor is of a class of its own")
    if not isinstance(function, Global) or function.name not in _TENSORS:
        raise TypeError("a tensor is not rebuilt as one")
    return _TENSORS[function.name](*arguments)


def _ordered(pairs: list[tuple[Any, Any]] | None = None) -> dict[Any, Any]:
    """``collections.OrderedDict``, empty or, by Python 2, with all its items: a list that nobody needs twice."""
    found = {text(key): value for key, value in pairs or []}
    if pairs is not None:
        pairs.clear()
    return found


def _encoded(written: str, encoding: object) -> str:
    """``_codecs.encode``, with which the second protocol writes bytes: each stays the character that stands for it."""
    if encoding != "latin1" or not isinstance(written, str):
        raise ValueError("bytes are not written as latin1")
    return written


_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL", "uint16": "U16", "uint32": "U32", "uint64": "U64",
    "complex64": "C64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
}  # fmt: skip
"""PyTorch's names of types, and those of safetensors."""

_STORAGES = {
    "Double": "F64", "Float": "F32", "Half": "F16", "BFloat16": "BF16", "Long": "I64", "Int": "I32", "Short": "I16",
    "Char": "I8", "Byte": "U8", "Bool": "BOOL", "ComplexFloat": "C64",
}  # fmt: skip

_TENSORS: Mapping[str, Callable[..., StoredView]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
}
_CALLS: Mapping[str, Callable[..., object]] = {
    "collections.OrderedDict": _ordered,
    **_TENSORS,
    "torch._tensor._rebuild_from_type_v2": _with_attributes,
    "torch.Size": lambda sizes=(): _sizes(sizes),
    "torch.device": lambda *_: None,
    "_codecs.encode": _encoded,
}

GLOBALS = {
    **{name: Global(name, call) for name, call in _CALLS.items()},
    **{f"torch.{name}": Global(f"torch.{name}", dtype=dtype) for name, dtype in _DTYPES.items()},
    **{
        f"{module}.{kind}Storage": Global(f"{module}.{kind}Storage", dtype=dtype)
        for kind, dtype in _STORAGES.items()
        for module in ("torch", "torch.cuda")
    },
    **{name: Global(name) for name in ("torch.storage.UntypedStorage", "torch.Tensor")},
}
"""Everything that a pickle may name."""
