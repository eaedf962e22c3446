"""config.json as checked values: every field a family reads has the right kind, or the job stops with its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from converter.errors import ArchitectureError
from converter.gguf.key_values import FLOAT32_LARGEST
from converter.sources.source_file import quoted

T = TypeVar("T")

#: The smallest positive number in float32, as which llama.cpp reads every number that is no integer.
SMALLEST = 2.0**-149
#: Integers end here: llama.cpp reads most of them as int32.
INTEGERS_END = 2**31


class Hyperparameters:
    """Read access to ``config.json``, or to an object within it, with a family's defaults behind it.

    transformers leaves out of ``config.json`` whatever equals its class's default, so a family carries those
    defaults. A field that is ``null`` counts as absent.

    Args:
        config: the parsed file, or the object.
        defaults: values of absent fields.
        path: of the object within the file, for messages: ``""``, or the fields on the way there, each with a dot.
    """

    def __init__(self, config: Mapping[str, Any], defaults: Mapping[str, Any] | None = None, path: str = "") -> None:
        self._config = config
        self._defaults = defaults or {}
        self._path = path
        self._values = {**self._defaults, **{name: value for name, value in config.items() if value is not None}}

    def __contains__(self, name: str) -> bool:
        """Whether the field has a value, given or by default."""
        return self._get(name) is not None

    def __iter__(self) -> Iterator[str]:
        """Names of the fields that have one."""
        return (name for name, value in self._values.items() if value is not None)

    def says_none(self, name: str) -> bool:
        """Whether the file gives the field as ``null``, where that means something else than leaving it out."""
        return name in self._config and self._config[name] is None

    def with_fields(self, **changes: Any) -> Hyperparameters:
        """The same with other fields; None takes one out."""
        return Hyperparameters({**self._config, **changes}, self._defaults, self._path)

    def field(self, name: str) -> str:
        """The field's name as messages have it: quoted, with the objects that it is in."""
        return repr(f"{self._path}{name}")

    def refusal(self, name: str, reason: str) -> ArchitectureError:
        """An error over a field's value.

        Args:
            name: the field; it need not be there.
            reason: what follows "config.json: 'name' is value, ".
        """
        value = self._config[name] if name in self._config else self._get(name)
        return ArchitectureError(f"config.json: {self.field(name)} is {quoted(value)}, {reason}")

    def _get(self, name: str) -> Any:
        return self._values.get(name)

    def _require(self, name: str, kind: str) -> Any:
        if name not in self:
            raise ArchitectureError(
                f"config.json: no {self.field(name)}, {kind} expected; the file is incomplete or of another family"
            )
        return self._values[name]

    # Single values.

    def integer(self, name: str, minimum: int = 1) -> int:
        """An integer of at least ``minimum``; ArchitectureError otherwise."""
        kind = f"an integer of at least {minimum}"
        value = self._require(name, kind)
        if not is_integer(value) or not minimum <= value < INTEGERS_END:
            raise self.refusal(name, f"{kind} expected")
        return int(value)

    def optional_integer(self, name: str, minimum: int = 1) -> int | None:
        """The same, or None where there is none."""
        return self.integer(name, minimum) if name in self else None

    def integer_or_auto(self, name: str) -> int | None:
        """An integer of at least 1, or None where the file says "auto"; ArchitectureError otherwise."""
        return None if self._get(name) == "auto" else self.integer(name)

    def integer_or_letters(self, name: str, letters: str) -> int | str:
        """An integer of at least 1, or a text of these letters; ArchitectureError otherwise."""
        value = self._get(name)
        if not isinstance(value, str):
            return self.integer(name)
        if not value or set(value) - set(letters):
            raise self.refusal(name, f"an integer of at least 1 or a text of {' and '.join(letters)} expected")
        return value

    def integer_of_layers(self, name: str, layers: int, minimum: int = 1) -> int:
        """An integer, alone or in a list that has it for each layer.

        Raises:
            ArchitectureError: it is neither, or layers differ.
        """
        value = self._get(name)
        if not isinstance(value, list):
            return self.integer(name, minimum)
        if not value or not is_integer(value[0]) or not minimum <= value[0] < INTEGERS_END:
            raise self.refusal(name, f"an integer of at least {minimum} expected, or a list of it for each layer")
        if not same(value, [value[0]] * layers):
            raise self.refusal(name, f"the same number for each of {layers} layers expected")
        return int(value[0])

    def number(self, name: str) -> float:
        """A number that float32 holds; ArchitectureError otherwise."""
        value = self._require(name, "a number")
        if not is_number(value):
            raise self.refusal(name, "a finite number expected")
        return float(value)

    def positive(self, name: str) -> float:
        """A number above 0 that float32 holds; ArchitectureError otherwise."""
        value = self._require(name, "a positive number")
        if not is_number(value) or not value >= SMALLEST:
            raise self.refusal(name, "a positive number expected")
        return float(value)

    def optional_positive(self, name: str) -> float | None:
        """The same, or None where there is none."""
        return self.positive(name) if name in self else None

    def flag(self, name: str) -> bool:
        """A boolean, False where absent; ArchitectureError for anything else."""
        value = self._get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.refusal(name, "true or false expected")
        return value

    def optional_flag(self, name: str) -> bool | None:
        """The same, or None where absent."""
        return self.flag(name) if name in self else None

    def text(self, name: str) -> str:
        """A text that is not empty; ArchitectureError otherwise."""
        value = self._require(name, "a text")
        if not isinstance(value, str) or not value:
            raise self.refusal(name, "a text expected")
        return value

    def one_of(self, name: str, *allowed: T) -> T:
        """A value that the runtime can represent; ArchitectureError naming those it can."""
        value = self._get(name)
        for choice in allowed:
            if same(value, choice):
                return choice
        choices = " or ".join(repr(choice) for choice in allowed)
        raise ArchitectureError(
            f"config.json: {self.field(name)} is {quoted(value)}, but llama.cpp runs this family only with {choices}"
        )

    # Objects and lists.

    def section(
        self, name: str, defaults: Mapping[str, Any] | None = None, *, path: str | None = None
    ) -> Hyperparameters:
        """The object in a field, empty where there is none; ArchitectureError for anything else.

        Args:
            name: the field.
            defaults: values of the object's absent fields.
            path: where the object stands in the file, if not in this one.
        """
        value = self._get(name)
        if value is not None and not isinstance(value, Mapping):
            raise self.refusal(name, "an object expected")
        return Hyperparameters(value or {}, defaults, f"{self._path}{name}." if path is None else path)

    def numbers(self, name: str, length: int) -> list[float]:
        """A list of as many numbers that float32 holds; ArchitectureError otherwise."""
        kind = f"a list of {length} numbers"
        values = self._require(name, kind)
        if not isinstance(values, list) or len(values) != length or not all(map(is_number, values)):
            raise self.refusal(name, f"{kind} expected")
        return [float(value) for value in values]

    def integers(self, name: str, length: int | None = None) -> list[int]:
        """A list of integers of at least 0, of a certain length if that is given; ArchitectureError otherwise."""
        kind = "a list of integers" if length is None else f"a list of {length} integers"
        values = self._require(name, kind)
        whole = isinstance(values, list) and all(is_integer(value) and 0 <= value < INTEGERS_END for value in values)
        if not whole or length not in (None, len(values)):
            raise self.refusal(name, f"{kind} expected")
        return list(values)

    def kinds(self, name: str, known: Mapping[str, str]) -> list[str]:
        """What each entry of a list, or each letter of a text, stands for; ArchitectureError for an unknown one."""
        words, letters = (", ".join(word for word in known if (len(word) > 1) == long) for long in (True, False))
        kind = f"a list of {words} or a text of {letters}"
        values = self._require(name, kind)
        listed = isinstance(values, list | str) and all(isinstance(value, str) for value in values)
        if not values or not listed or not all(value in known for value in values):
            raise self.refusal(name, f"{kind} expected")
        return [known[value] for value in values]

    def by_layer(self, name: str, layers: int, allowed: Sequence[T]) -> list[T] | None:
        """A list with one of ``allowed`` for each layer; None where config.json has none.

        Raises:
            ArchitectureError: it is no such list.
        """
        given = self._get(name)
        if given is None:
            return None
        kinds = [next((kind for kind in allowed if same(value, kind)), None) for value in _items(given)]
        known = [kind for kind in kinds if kind is not None]
        if len(known) != layers or len(kinds) != layers:
            raise self.refusal(name, f"a list of {layers} of {', '.join(map(str, allowed))} expected")
        return known

    def layer_types(self, layers: int, usual: list[str], allowed: tuple[str, ...]) -> list[str]:
        """``layer_types``, one of ``allowed`` for each layer; ``usual`` where config.json has none.

        Raises:
            ArchitectureError: it is no such list.
        """
        return usual if (types := self.by_layer("layer_types", layers, allowed)) is None else types


def is_integer(value: Any) -> bool:
    """Whether JSON has an integer there; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether JSON has a number there that float32 holds."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and -FLOAT32_LARGEST <= value <= FLOAT32_LARGEST


def same(value: Any, other: Any) -> bool:
    """Whether two values of JSON are the same: numbers by what they are worth, but true is not 1."""
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(same, value, other))
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
