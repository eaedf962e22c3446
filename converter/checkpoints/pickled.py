"""A stranger's pickle read as data: nothing that it names is imported, nothing in it is called.

A pickle is a program for a stack machine (https://docs.python.org/3/library/pickletools.html describes each opcode).
The one here knows what a state dict needs: containers, scalars, and the few functions with which PyTorch rebuilds
tensors, of which it keeps the arguments. ``torch.load(weights_only=True)`` accepts all that is accepted here, and more;
reading without it spares 300 MB and a second, and works on files that are not on this machine's disk.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, BinaryIO

from converter.checkpoints.source_file import quoted
from converter.errors import CheckpointError

PICKLE_LIMIT = 2**24
"""Bytes of pickles that are read at most, some 80,000 tensors."""

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""What a file of the format before PyTorch 1.6 begins with."""


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
class _Global:
    """A name that the pickle may speak of; ``call`` is what stands for calling it."""

    name: str
    call: Callable[..., object] | None = None
    dtype: str | None = None


def unpickled(stream: BinaryIO, path: str) -> Any:
    """The next object of a stream: dicts, lists, tuples, scalars and :class:`StoredView`.

    Raises:
        CheckpointError: the pickle wants something else, which is named, or it is malformed.
    """
    machine = _Machine(path)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            machine.step(opcode.name, argument)
        (result,) = machine.stack
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{path}: its pickle is damaged ({quoted(reason)}); download it again") from error
    return result


class _Machine:
    def __init__(self, path: str) -> None:
        self.path = path
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise CheckpointError(f"{self.path}: its pickle uses {name}, which no state dict needs; {_ADVICE}")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def marked(self) -> list[Any]:
        """What was pushed since the last mark, taken off."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def memorize(self, key: int | None) -> None:
        self.memo[len(self.memo) if key is None else key] = self.stack[-1]

    def look_up(self, argument: str | None) -> None:
        if argument is None:  # STACK_GLOBAL
            name, module = _text(self.stack.pop()), _text(self.stack.pop())
        else:
            module, name = argument.split(" ", 1)
        full = f"{module}.{name}"
        if full not in _GLOBALS:
            raise self.wants(full)
        self.stack.append(_GLOBALS[full])

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Global) or function.call is None or type(arguments) is not tuple:
            raise self.wants(f"a call of {function.name if isinstance(function, _Global) else type(function).__name__}")
        self.stack.append(function.call(*arguments))

    def build(self) -> None:
        # Attributes of an OrderedDict (_metadata, versions of modules) say nothing about weights.
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is not dict or type(state) is not dict:
            raise self.wants(f"to set the state of a {type(target).__name__}")

    def extend(self, items: Iterable[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise TypeError(f"appends to a {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise TypeError(f"sets items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # A tuple of tuples of tuples takes for ever to hash.
            if type(key) not in (str, int, bytes):
                raise TypeError(f"a key is a {type(key).__name__}")
            target[key] = value

    def persistent(self) -> None:
        """The address of a storage: ("storage", type, key, location, count), and in old files a view or None."""
        kind, of, key, _, count, *view = self.stack.pop()
        if kind not in ("storage", b"storage") or not isinstance(of, _Global) or of.call is not None:
            raise self.wants(f"a persistent {quoted(kind) if isinstance(kind, str | bytes) else type(kind).__name__}")
        part = None
        if view and view[0] is not None:
            _, first, size = view[0]
            part = (_size(first), _size(size))
        self.stack.append(Storage(_text(key), of.dtype, _size(count), part))

    def wants(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: its pickle wants {what[:200]!r}, which no weights need; {_ADVICE}")


_ADVICE = (
    "nothing was run; ask its author for safetensors, or save model.state_dict() as such where you may trust the file"
)


def _take(machine: _Machine, count: int) -> tuple[Any, ...]:
    if len(machine.stack) < count:
        raise IndexError("the stack is empty")
    items = tuple(machine.stack[len(machine.stack) - count :])
    del machine.stack[len(machine.stack) - count :]
    return items


_LITERALS = frozenset(
    {
        "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINSTRING",
        "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "INT", "LONG", "FLOAT", "UNICODE", "STRING",
    }
)  # fmt: skip
_EMPTY: Mapping[str, Callable[[], object]] = MappingProxyType(
    {
        "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple,
        "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    }
)  # fmt: skip


def _mark(machine: _Machine, _: None) -> None:
    machine.below.append(machine.stack)
    machine.stack = []


def _dict(machine: _Machine, _: None) -> None:
    items = machine.marked()
    machine.push({})
    machine.set_items(items)


_ACTIONS: Mapping[str, Callable[[_Machine, Any], None]] = MappingProxyType(
    {
        "MARK": _mark,
        "TUPLE": lambda machine, _: machine.push(tuple(machine.marked())),
        "TUPLE1": lambda machine, _: machine.push(_take(machine, 1)),
        "TUPLE2": lambda machine, _: machine.push(_take(machine, 2)),
        "TUPLE3": lambda machine, _: machine.push(_take(machine, 3)),
        "LIST": lambda machine, _: machine.push(machine.marked()),
        "DICT": _dict,
        "APPEND": lambda machine, _: machine.extend(_take(machine, 1)),
        "APPENDS": lambda machine, _: machine.extend(machine.marked()),
        "SETITEM": lambda machine, _: machine.set_items(list(_take(machine, 2))),
        "SETITEMS": lambda machine, _: machine.set_items(machine.marked()),
        **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.memorize),
        **dict.fromkeys(
            ("GET", "BINGET", "LONG_BINGET"), lambda machine, key: machine.push(machine.memo[key])
        ),
        **dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), _Machine.look_up),
        **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda machine, _: machine.reduce()),
        "BUILD": lambda machine, _: machine.build(),
        "BINPERSID": lambda machine, _: machine.persistent(),
    }
)  # fmt: skip


def _size(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**60:
        raise ValueError(f"a size is {quoted(value) if isinstance(value, int) else type(value).__name__}")
    return value


def _sizes(values: object) -> tuple[int, ...]:
    if type(values) is not tuple or len(values) > 64:
        raise ValueError(f"sizes are a {type(values).__name__}")
    return tuple(map(_size, values))


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("ascii")
    if not isinstance(value, str):
        raise TypeError(f"a key is a {type(value).__name__}")
    return value


def _view(storage: Storage, offset: object, shape: object, strides: object, of: object, metadata: object) -> StoredView:
    if not isinstance(storage, Storage) or metadata or not isinstance(of, _Global | None):
        raise ValueError("a tensor is not plainly stored")
    dtype = storage.dtype if of is None else of.dtype
    sizes, steps = _sizes(shape), _sizes(strides)
    if dtype is None or len(sizes) != len(steps):
        raise ValueError(f"a tensor of type {dtype} has {len(sizes)} sizes and {len(steps)} strides")
    return StoredView(storage, dtype, _size(offset), sizes, steps)


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


def _ordered(pairs: Iterable[tuple[Any, Any]] = ()) -> dict[Any, Any]:
    """``collections.OrderedDict``, empty or, by Python 2, with all its items."""
    return {_text(key): value for key, value in pairs}


def _encoded(text: str, encoding: str) -> bytes:
    """How the second protocol writes bytes."""
    if encoding != "latin1":
        raise ValueError(f"bytes are written in {quoted(encoding)}")
    return text.encode("latin1")


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

_CALLS: Mapping[str, Callable[..., object]] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "torch.Size": lambda sizes=(): _sizes(sizes),
    "torch.device": lambda *_: None,
    "_codecs.encode": _encoded,
}

_GLOBALS = {
    **{name: _Global(name, call) for name, call in _CALLS.items()},
    **{f"torch.{name}": _Global(f"torch.{name}", dtype=dtype) for name, dtype in _DTYPES.items()},
    **{
        f"{module}.{kind}Storage": _Global(f"{module}.{kind}Storage", dtype=dtype)
        for kind, dtype in _STORAGES.items()
        for module in ("torch", "torch.cuda")
    },
    "torch.storage.UntypedStorage": _Global("torch.storage.UntypedStorage"),
}
"""Everything that a pickle may name."""
