"""The group of commands: each is imported when it is called, so that help is instant; without one, it converts."""

from __future__ import annotations

import importlib

import click

from converter.cli.options import GroupedOption
from converter.cli.words import option_meant
from converter.errors import UsageError

#: Command, its module in this package, and its line in the help.
COMMANDS = {
    "adapter": "Convert a LoRA adapter to a GGUF that llama.cpp loads next to its base model.",
    "batch": "Convert many models with many methods, unattended.",
    "families": "List the supported architectures.",
    "imatrix": "Measure, combine or print importance matrices.",
    "inspect": "Print what a GGUF file or a checkpoint contains.",
    "list": "List the recorded results.",
    "merge": "Join the parts of a split GGUF into one file.",
    "methods": "List the methods, with bits per weight and when to use each.",
    "ollama": "Add a GGUF to a running Ollama server.",
    "prune": "Forget results whose files are gone; delete old ones on request.",
    "show": "Show everything recorded about one result.",
    "verify": "Check a finished file or directory against its source.",
}
#: Words that may stand before a conversion's arguments, as other tools have them.
CONVERSION = ("quantize", "convert")
#: Options that a conversion takes once.
ONCE = ("model", "output")


class ConvertGroup(click.Group):
    """Subcommands by name, without importing those that are not called; anything else is a conversion's arguments."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words, _ = self.parsed(ctx, args, all_options=False)
        at = len(args) - len(words)
        word = words[0] if words and "--" not in args[:at] else ""
        if word == "help":
            return self.parse_args(ctx, [*args[:at], *words[1:], "--help"])
        if word in COMMANDS:
            self.check_before(ctx, args[:at], word)
            return super().parse_args(ctx, args)
        if word in CONVERSION:
            args = [*args[:at], *words[1:]]
        _, order = self.parsed(ctx, args, all_options=True)
        for name in ONCE:
            if sum(parameter.name == name for parameter in order) > 1:
                raise UsageError(f"--{name} is given twice; convert batch converts several models")
        ctx.allow_interspersed_args = True
        return click.Command.parse_args(self, ctx, args)  # the group's own takes the first word for a command

    def parsed(
        self, ctx: click.Context, args: list[str], *, all_options: bool
    ) -> tuple[list[str], list[click.Parameter]]:
        """The words that are neither options nor their values, and the options in their order.

        Args:
            ctx: the context.
            args: what is parsed.
            all_options: those behind the first word, too, which then is one of a conversion's.

        Raises:
            UsageError: an option that there is not; what it means elsewhere, or the nearest.
        """
        parser = self.make_parser(ctx)
        parser.allow_interspersed_args = all_options
        try:
            _, words, order = parser.parse_args(list(args))
        except click.NoSuchOption as error:
            valid = [name for parameter in self.params for name in parameter.opts if name.startswith("--")]
            meant = option_meant(error.option_name, valid)
            raise click.NoSuchOption(error.option_name, f"no such option {error.option_name}{meant}") from None
        return words, order

    def check_before(self, ctx: click.Context, before: list[str], command: str) -> None:
        """Refuse a conversion's options before a command's name, which may be a model's directory."""
        _, order = self.parsed(ctx, before, all_options=False)
        given = next((parameter for parameter in order if isinstance(parameter, GroupedOption)), None)
        if given is not None:
            raise UsageError(
                f"{given.opts[0]} belongs to a conversion, but {command} is a command; a model of that name is "
                f"./{command}"
            )

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"converter.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "MODEL [METHOD]... [OPTIONS]")
        formatter.write_usage(ctx.command_path, "COMMAND [ARGS]...", prefix="       ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                groups.setdefault(getattr(parameter, "group", "") or "Run", []).append(record)
        for group, records in groups.items():
            with formatter.section(group):
                formatter.write_dl(records)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))
