"""Kinds of values that options take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from converter.errors import UsageError
from converter.option import nearest


class Choice(click.Choice[str]):
    """One of a few words; any other is answered with the one that it means.

    Args:
        choices: the words.
        words: some of them by what people call them elsewhere, in lower case.
    """

    def __init__(self, choices: Sequence[str], words: Mapping[str, str]) -> None:
        super().__init__(choices)
        self.words = words

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices:
            self.fail(f"{value!r} is not a value{nearest(value, self.choices, self.words)}", param, ctx)
        return value


class ByteSize(click.ParamType[int]):
    """A number of bytes such as ``500M`` or ``4G``."""

    name = "size"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from converter.outputs import parse_size

        try:
            return parse_size(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)
