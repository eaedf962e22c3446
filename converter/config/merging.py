"""The command line's options over those of a file: the arguments of a conversion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from converter.errors import UsageError
from converter.option import UNSAID, Declared, Kind, Option, arguments_of, declared
from converter.request import Request


def merge(given: Mapping[str, Any], file: Mapping[str, Any], recipe: Path | None = None) -> dict[str, Any]:
    """Arguments of ``converter.convert``: what is given, before what the file says.

    Args:
        given: values by field names, as the command line has them; what says nothing may be left out.
        file: what :func:`converter.config.schema.read_configuration` read.
        recipe: a file that takes the place of the configuration's recipe.

    Returns:
        The arguments that are said; ``overrides`` among them.

    Raises:
        UsageError: a value that is none, or ``model`` or ``method`` is missing.
    """
    if recipe is not None:
        from converter.config.schema import RECIPE, read_recipe

        own = {found.name for found in RECIPE.values()}
        file = {name: value for name, value in file.items() if name not in own} | read_recipe(recipe)
    values: dict[str, Any] = {}
    for found in declared(Request):
        value = _value(found, given.get(found.name), file.get(found.name))
        if value not in UNSAID:
            values[found.name] = value
        elif found.required:
            raise UsageError(f"{found.option.flags[0]} is missing; convert --help shows an example")
    return arguments_of(Request, values)


def _value(found: Declared, given: Any, file: Any) -> Any:
    """What counts of an option."""
    read = _READ.get(found.option.kind)
    said = given if read is None or given in UNSAID else read(given, found.option)
    if found.option.adds and said not in UNSAID and file not in UNSAID:
        return (*said, *file) if found.option.adds == "before" else (*file, *said)
    return file if said in UNSAID else said


def _pair(text: str, option: Option) -> tuple[str, str]:
    left, equals, right = text.rpartition("=")
    if not (left and equals and right):
        raise UsageError(f"{option.flags[0]} {text!r} is not {option.metavar}")
    return left, right


def _pairs(texts: tuple[str, ...], option: Option) -> tuple[tuple[str, str], ...]:
    return tuple(_pair(text, option) for text in texts)


def _numbers(text: str, option: Option) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option.flags[0]} {text!r} is not a list of block numbers such as 3,4,5") from None


#: How a value of the command line becomes a field's, where Click has not read it already.
_READ: Mapping[Kind, Callable[[Any, Option], Any]] = {Kind.ASSIGNMENTS: _pairs, Kind.NUMBERS: _numbers}
