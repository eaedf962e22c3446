"""Click's options, made of the declared ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from converter.cli.parameters import ByteSize, Choice
from converter.option import Declared, Kind, Option, declared

#: How Click reads an option of each kind, and what stands for its value in the help.
_KINDS: Mapping[Kind, Callable[[Option], dict[str, Any]]] = {
    Kind.TEXT: lambda option: {"type": Choice(option.choices, option.words) if option.choices else str},
    Kind.FLAG: lambda option: {"is_flag": True},
    Kind.COUNT: lambda option: {"type": click.IntRange(1)},
    Kind.SIZE: lambda option: {"type": ByteSize()},
    Kind.TEXTS: lambda option: {},
    Kind.ASSIGNMENTS: lambda option: {},
    Kind.NUMBERS: lambda option: {},
}


class GroupedOption(click.Option):
    """An option with its heading in the help.

    Args:
        group: the heading.
    """

    def __init__(self, *names: Any, group: str = "", **how: Any) -> None:
        super().__init__(*names, **how)
        self.group = group

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Without the range of a number, which is obvious: at least 1."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


def click_option(found: Declared) -> GroupedOption:
    """The option as Click has it; its parameter's name is the field's, and its value None, False or () if not given."""
    option = found.option
    text = f"{option.help}  [default: {option.default}]" if option.default else option.help
    return GroupedOption(
        [*option.flags, found.name],
        group=option.group,
        multiple=option.several or option.kind in (Kind.TEXTS, Kind.ASSIGNMENTS),
        help=text,
        metavar=option.metavar,
        **_KINDS[option.kind](option),
    )


def options_of(options: type) -> Callable[[click.Command], click.Command]:
    """Decorate a command with the options of a dataclass, before its own."""

    def add(command: click.Command) -> click.Command:
        made = [click_option(found) for found in declared(options) if found.option.flags]
        command.params[:0] = made
        return command

    return add
