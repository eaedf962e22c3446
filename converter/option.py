"""How an option is declared: once, at the field that holds its value.

The command line's options, the keys of YAML files, how the two are merged, what a batch may say of a job, which formats
know the option and what the catalogue compares are all made from these declarations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any

from converter.errors import UsageError

_DECLARED = "option"
_WITHIN = "options"
#: Values that leave an option unsaid.
UNSAID: tuple[Any, ...] = (None, False, (), [])


class Kind(Enum):
    """What values an option takes, and so how the command line and YAML write them."""

    TEXT = "a text, a path or a name"
    FLAG = "on or off"
    COUNT = "a number, at least 1"
    SIZE = "bytes such as 500M"
    TEXTS = "texts; the command line repeats the option"
    ASSIGNMENTS = "pairs of texts: a mapping, or NAME=VALUE repeated"
    NUMBERS = "a list of numbers, or 3,4,5"


class Decides(Enum):
    """What an option means to the output, and so to whether two requests are the same."""

    BYTES = "its value decides the bytes"
    CONTENT = "it names files, whose content decides the bytes"
    NOTHING = "it changes how the work is done"


@dataclass(frozen=True)
class Option:
    """How a field is given.

    Attributes:
        help: one sentence for ``--help``.
        flags: on the command line; none where it has no option there.
        key: in a YAML file, dotted where it lies in a section; None where a file cannot say it; by default the field's
            name.
        kind: what values it takes.
        metavar: stands for the value in ``--help``.
        choices: the only values, where there are few.
        words: what people call a choice elsewhere; only ever suggested.
        default: the default in words, where it is not obvious.
        group: its heading in ``--help``.
        formats: the formats that know it; all without any.
        decides: what it means to the output.
        per_job: whether a batch may say it of each job.
        several: the command line may repeat it, or name several with commas between them, each for its own output.
        adds: where the command line's values go beside those of a file, ``before`` or ``after``; without it they
            replace them.
    """

    help: str
    flags: tuple[str, ...] = ()
    key: str | None = ""
    kind: Kind = Kind.TEXT
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    default: str = ""
    group: str = ""
    formats: tuple[str, ...] = ()
    decides: Decides = Decides.BYTES
    per_job: bool = True
    several: bool = False
    adds: str = ""


@dataclass(frozen=True)
class Within:
    """That a field holds further options: a dataclass whose fields are declared.

    Attributes:
        options: the dataclass.
        name: what all of them are called together.
        formats: the formats that know them; all without any.
    """

    options: type
    name: str
    formats: tuple[str, ...] = ()


def option(help: str, *flags: str, **how: Any) -> Mapping[str, Any]:
    """The metadata of a field that is an option; further arguments are those of :class:`Option`."""
    return {_DECLARED: Option(help, flags, **how)}


def within(options: type, name: str, formats: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """The metadata of a field that holds further options."""
    return {_WITHIN: Within(options, name, formats)}


@dataclass(frozen=True)
class Declared:
    """A field with its declaration.

    Attributes:
        name: the field's name, which no other option shares.
        option: how it is given.
        default: its value where nothing is said.
        required: there is none.
        holder: the field that holds it, for an option within another field.
    """

    name: str
    option: Option
    default: Any
    required: bool
    holder: str = ""

    @property
    def key(self) -> str | None:
        """The key in a YAML file; None where a file cannot say it."""
        return self.name if self.option.key == "" else self.option.key


def declared(options: type, holder: str = "") -> Iterator[Declared]:
    """Every option of a dataclass and of those within it, in the order of the fields.

    Raises:
        TypeError: a field without a declaration.
    """
    for item in dataclasses.fields(options):
        if inner := item.metadata.get(_WITHIN):
            yield from declared(inner.options, item.name)
        elif (found := item.metadata.get(_DECLARED)) is None:
            raise TypeError(f"{options.__name__}.{item.name} is not declared as an option")
        else:
            required = item.default is dataclasses.MISSING
            yield Declared(item.name, found, None if required else item.default, required, holder)


def decisions(options: type) -> dict[str, tuple[Decides, Any]]:
    """By field, what it means to the output, and the value that it has where nothing is said.

    A field that holds further options decides bytes.
    """
    found: dict[str, tuple[Decides, Any]] = {}
    for item in dataclasses.fields(options):
        if inner := item.metadata.get(_WITHIN):
            found[item.name] = Decides.BYTES, inner.options()
        else:
            found[item.name] = item.metadata[_DECLARED].decides, item.default
    return found


def arguments_of(options: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a dataclass of options, fields that hold further options made as well.

    Args:
        options: the dataclass.
        values: of fields by their names, those within other fields too.

    Raises:
        UsageError: a value that a dataclass refuses.
    """
    arguments: dict[str, Any] = {}
    for item in dataclasses.fields(options):
        if inner := item.metadata.get(_WITHIN):
            arguments[item.name] = inner.options(**arguments_of(inner.options, values))
        elif item.name in values:
            arguments[item.name] = values[item.name]
    return arguments


def unknown_to(request: Any, output_format: str) -> Iterator[str]:
    """What is asked for of a dataclass of options that a format knows nothing of, as the user calls it."""
    for item in dataclasses.fields(request):
        value = getattr(request, item.name)
        if inner := item.metadata.get(_WITHIN):
            if inner.formats and output_format not in inner.formats and value != inner.options():
                yield inner.name
        else:
            how: Option = item.metadata[_DECLARED]
            if how.formats and output_format not in how.formats and value not in UNSAID:
                yield how.flags[0]


def check_values(options: Any) -> None:
    """Refuse values of a dataclass of options that are none of the few there are, or numbers below 1.

    Raises:
        UsageError: names the field, its value and what may be chosen.
    """
    for item in dataclasses.fields(options):
        how: Option | None = item.metadata.get(_DECLARED)
        value = getattr(options, item.name)
        if how is None or value is None:
            continue
        if how.choices and value not in how.choices:
            raise UsageError(f"{item.name} {value!r} does not exist{nearest(str(value), how.choices, how.words)}")
        if how.kind in (Kind.COUNT, Kind.SIZE) and value < 1:
            raise UsageError(f"{item.name} is {value}, at least 1 expected")


def nearest(word: str, valid: Sequence[str], words: Mapping[str, str] = MappingProxyType({})) -> str:
    """The rest of a refusal: what the word means elsewhere, the nearest valid name by its letters, or all of them.

    Args:
        word: what was found.
        valid: names that would do.
        words: those of ``valid`` by what people call them elsewhere, in lower case.
    """
    import difflib

    meant = words.get(word.lower())
    near = [meant] if meant else difflib.get_close_matches(word.lower(), valid, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; valid: {', '.join(valid)}"
