"""A conversion as YAML: sections made of the declared options."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional

from pydantic import Field, PositiveInt, create_model

from converter.config.sections import Section, read_section
from converter.errors import UsageError
from converter.option import Declared, Kind, declared
from converter.request import Request

#: Every option that a file can give, by its key.
KEYS: Mapping[str, Declared] = {found.key: found for found in declared(Request) if found.key is not None}
#: What YAML holds for values of each kind.
_ANNOTATIONS: Mapping[Kind, Any] = {
    Kind.TEXT: str,
    Kind.FLAG: bool,
    Kind.COUNT: PositiveInt,
    Kind.SIZE: int | str,
    Kind.TEXTS: list[str],
    Kind.ASSIGNMENTS: dict[str, str],
    Kind.NUMBERS: list[int],
}
#: How a value of YAML becomes a field's.
_READ: Mapping[Kind, Any] = {Kind.TEXTS: tuple, Kind.NUMBERS: tuple, Kind.ASSIGNMENTS: lambda pairs: (*pairs.items(),)}


def section(name: str, keys: Mapping[str, Declared]) -> type[Section]:
    """A section that takes these keys; those with a dot lie in sections of their own.

    Args:
        name: of the class.
        keys: options by their keys.
    """
    inner: dict[str, dict[str, Declared]] = {}
    for key, found in keys.items():
        first, _, rest = key.partition(".")
        inner.setdefault(first, {})[rest] = found
    fields: dict[str, Any] = {}
    for first, within in inner.items():
        if "" in within:
            fields[first] = _field(within[""])
        else:
            kind = section(first, within)
            needed = any(found.required for found in within.values())
            fields[first] = (kind, ...) if needed else (kind, Field(default_factory=kind))
    made: type[Section] = create_model(name, __base__=Section, **fields)
    return made


def _field(found: Declared) -> tuple[Any, Any]:
    """An option's annotation and default; where nothing is said, the dataclass decides."""
    kind = Literal[found.option.choices] if found.option.choices else _ANNOTATIONS[found.option.kind]
    if found.required:
        return kind, ...
    return (Optional[kind] if found.default is None else kind), found.default  # noqa: UP045 (made at run time)


def values_of(said: Mapping[str, Any], keys: Mapping[str, Declared]) -> dict[str, Any]:
    """Values of fields by their names, of all that a file says.

    Args:
        said: the file's mapping or a part of it, checked.
        keys: options by their keys; what else is said counts for nothing here.

    Raises:
        UsageError: a size that is none.
    """
    return {keys[key].name: _value(keys[key], value) for key, value in _flat(said, keys) if key in keys}


def _flat(said: Mapping[str, Any], keys: Iterable[str], above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys with their values."""
    for name, value in said.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping) and key not in keys:
            yield from _flat(value, keys, f"{key}.")
        else:
            yield key, value


def _value(found: Declared, value: Any) -> Any:
    if found.option.kind is Kind.SIZE and value is not None:
        from converter.outputs import parse_size

        return parse_size(value)
    read = _READ.get(found.option.kind)
    return value if read is None else read(value)


if TYPE_CHECKING:
    _Keys = Section
else:
    _Keys = section("Keys", KEYS)


class Configuration(_Keys):
    """A conversion as a file.

    Attributes:
        verbose: print every tensor, and tracebacks.
    """

    verbose: bool = False


RECIPE = {key.removeprefix("recipe."): found for key, found in KEYS.items() if key.startswith("recipe.")}
#: What to decide instead of the method, tensor by tensor.
Recipe = section("Recipe", RECIPE)


def read_configuration(path: Path) -> dict[str, Any]:
    """Values of fields by their names, and ``verbose``, of all that a configuration file says.

    Raises:
        UsageError: the file is missing or no YAML mapping; a key or a value is unknown (with the nearest valid one),
            missing or of the wrong kind, each with its place in the file.
    """
    from converter.formats import find_format, find_method

    said = read_section(path, Configuration, "model and method").model_dump(exclude_unset=True)
    values = values_of(said, KEYS)
    try:
        find_method(find_format(values.get("output_format", "gguf")), values["method"])
    except UsageError as error:
        raise UsageError(f"{path}: method: {error}") from None
    return {**values, "verbose": said.get("verbose", False)}


def read_recipe(path: Path) -> dict[str, Any]:
    """Values of the fields of ``Overrides`` that a recipe gives; UsageError as :func:`read_configuration`."""
    return values_of(read_section(path, Recipe, "keys of a recipe").model_dump(exclude_unset=True), RECIPE)
