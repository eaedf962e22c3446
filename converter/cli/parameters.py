"""Kinds of values that options take."""

from __future__ import annotations

import click

from converter.errors import UsageError


class ByteSize(click.ParamType[int]):
    """A number of bytes such as ``500M`` or ``4G``."""

    name = "size"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from converter.outputs import parse_size

        try:
            return parse_size(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)
