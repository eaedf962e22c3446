"""The group of commands: each is imported when it is called, so that help is instant."""

from __future__ import annotations

import importlib

import click

#: Command, its module in this package, and its line in the help.
COMMANDS = {
    "adapter": "Write a LoRA adapter as a GGUF that llama.cpp loads beside its base.",
    "batch": "Convert many models by many methods, unattended.",
    "families": "List the architectures that can be converted.",
    "imatrix": "Measure on text which columns of the weights matter, for quantizing with importance.",
    "inspect": "Print a GGUF file's key-values and tensors.",
    "list": "List what the catalogue knows: results with their sizes and verdicts.",
    "merge": "Join the parts of a split GGUF model into one file.",
    "methods": "List the methods, their bits per weight and when to use each.",
    "ollama": "Make a GGUF a model of a running Ollama server.",
    "prune": "Forget results whose outputs are gone, and delete old ones where asked.",
    "show": "Print everything that is known of one result.",
    "verify": "Hold a finished file or directory against the model that it was made of.",
}


class ConvertGroup(click.Group):
    """Subcommands by name, without importing those that are not called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"converter.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))
