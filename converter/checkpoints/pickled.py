"""A stranger's pickle read as data: nothing that it names is imported, nothing in it is called.

A pickle is a program for a stack machine (https://docs.python.org/3/library/pickletools.html describes each opcode).
The one here knows what a state dict needs: containers, scalars, and the few functions with which PyTorch rebuilds
tensors, of which it keeps the arguments. No opcode makes more of what was read than it takes itself, so a stranger's
few bytes cost little. ``torch.load(weights_only=True)`` accepts all that is accepted here, and more;
reading without it spares 300 MB and a second, and works on files that are not on this machine's disk.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, BinaryIO

from converter.checkpoints.rebuilt import GLOBALS, Global, Storage, size, text
from converter.errors import CheckpointError
from converter.sources.source_file import quoted

PICKLE_LIMIT = 2**24
"""Bytes of pickles that are read at most, some 80,000 tensors."""

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""What a file of the format before PyTorch 1.6 begins with."""

_MAX_ARGUMENTS = 8  # of _rebuild_tensor_v3


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
            name, module = text(self.stack.pop()), text(self.stack.pop())
        else:
            module, name = argument.split(" ", 1)
        full = f"{module}.{name}"
        if full not in GLOBALS:
            raise self.wants(full)
        self.stack.append(GLOBALS[full])

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Global) or function.call is None or type(arguments) is not tuple:
            raise self.wants(f"a call of {function.name if isinstance(function, Global) else type(function).__name__}")
        if len(arguments) > _MAX_ARGUMENTS:
            raise TypeError(f"{function.name} has {len(arguments)} arguments")
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
        address = self.stack.pop()
        if type(address) is not tuple or not 5 <= len(address) <= 6:
            raise TypeError(f"an address is a {type(address).__name__}")
        kind, of, key, _, count, *view = address
        if kind not in ("storage", b"storage") or not isinstance(of, Global) or of.call is not None:
            raise self.wants(f"a persistent {quoted(kind) if isinstance(kind, str | bytes) else type(kind).__name__}")
        part = None
        if view and view[0] is not None:
            _, first, length = view[0]
            part = (size(first), size(length))
        self.stack.append(Storage(text(key), of.dtype, size(count), part))

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
