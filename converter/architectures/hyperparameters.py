"""config.json as checked values: every field a family reads has the right kind, or the job stops with its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from converter.errors import ArchitectureError


class Hyperparameters:
    """Read access to ``config.json`` with a family's defaults behind it.

    transformers leaves out of ``config.json`` whatever equals its class's default, so a family carries those
    defaults. A field that is ``null`` counts as absent.

    Args:
        config: the parsed file.
        defaults: values of absent fields.
    """

    def __init__(self, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        self.config = config
        self._values = {**defaults, **{name: value for name, value in config.items() if value is not None}}

    def get(self, name: str) -> Any:
        """The field's raw value, or None."""
        return self._values.get(name)

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def _require(self, name: str, kind: str) -> Any:
        if name not in self:
            raise ArchitectureError(
                f"config.json: no {name!r}, {kind} expected; the file is incomplete or of another family"
            )
        return self._values[name]

    def _refuse(self, name: str, kind: str) -> ArchitectureError:
        return ArchitectureError(f"config.json: {name!r} is {self._values[name]!r}, {kind} expected")

    def integer(self, name: str, minimum: int = 1) -> int:
        """An integer of at least ``minimum``; ArchitectureError otherwise."""
        kind = f"an integer of at least {minimum}"
        value = self._require(name, kind)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value < 2**31:
            raise self._refuse(name, kind)
        return value

    def number(self, name: str) -> float:
        """A finite number; ArchitectureError otherwise."""
        value = self._require(name, "a number")
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
            raise self._refuse(name, "a finite number")
        return float(value)

    def flag(self, name: str) -> bool:
        """A boolean, False where absent; ArchitectureError for anything else."""
        value = self._values.get(name, False)
        if not isinstance(value, bool):
            raise self._refuse(name, "true or false")
        return value

    def one_of(self, name: str, *allowed: Any) -> Any:
        """A value that the runtime can represent; ArchitectureError naming those it can."""
        value = self._values.get(name)
        if value not in allowed:
            choices = " or ".join(repr(choice) for choice in allowed)
            raise ArchitectureError(
                f"config.json: {name!r} is {value!r}, but llama.cpp runs this family only with {choices}"
            )
        return value

    def layer_types(self, layers: int, usual: list[str], allowed: tuple[str, ...]) -> list[str]:
        """``layer_types``, one of ``allowed`` for each layer; ``usual`` where config.json has none.

        Raises:
            ArchitectureError: it is no such list.
        """
        types = self._values.get("layer_types", usual)
        if not isinstance(types, list) or len(types) != layers or any(kind not in allowed for kind in types):
            raise self._refuse("layer_types", f"a list of {layers} of {', '.join(allowed)}")
        return types
