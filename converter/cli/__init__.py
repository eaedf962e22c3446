"""The command line: thin commands that parse, call one function and print."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import click

from converter.cli.failures import told
from converter.cli.group import ConvertGroup
from converter.cli.options import GroupedOption, options_of
from converter.errors import ConversionError
from converter.request import Request


@options_of(Request)
@click.group(
    cls=ConvertGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--recipe",
    cls=GroupedOption,
    group="Quantization",
    metavar="FILE",
    help="YAML file with your own recipe; see configs/recipe.yaml.",
)
@click.option("--no-catalogue", cls=GroupedOption, group="Output", is_flag=True, help="Do not record the result.")
@click.option(
    "--config",
    cls=GroupedOption,
    group="Run",
    metavar="FILE",
    help="Read options from a YAML file; those on the command line take precedence.",
)
@click.option("--verbose", "-v", is_flag=True, help="Print every tensor; on failure, show a traceback.")
@click.option("--quiet", "-q", is_flag=True, help="Print only errors.")
@click.option("--log-json", is_flag=True, help="Log each step to standard error as JSON, one object per line.")
@click.version_option(package_name="converter", prog_name="convert")
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> None:
    """Turn a language model's checkpoint into a small, fast, verified file.

    \b
        convert ./my-model                       # to my-model-q4_k_m.gguf
        convert ./my-model q8_0
        convert --method q4_0 --model ./my-model --output my-model-q4_0.gguf
        convert ORG/NAME q4_k_m,q8_0 --output models/

    The weights are read once, in pieces, and each file is checked against its source before it gets its name. To
    continue an interrupted conversion, run the same command again.
    """
    if context.invoked_subcommand is None:
        words = context.args
        if not words and not any(options[name] for name in ("model", "method", "config", "output")):
            click.echo(context.get_help())
            return
        from converter.cli.convert import run

        context.exit(run(words, **options))


def main() -> None:
    """Entry point: exit code 0 for success, 1 for a failed job, 2 for wrong usage, 130 for Ctrl-C, 143 for SIGTERM."""
    signal.signal(signal.SIGTERM, _terminate)
    arguments = sys.argv[1:]
    verbose, json = "--verbose" in arguments or "-v" in arguments, "--log-json" in arguments
    try:
        code = cli.main(prog_name="convert", standalone_mode=False)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except (click.ClickException, click.Abort, ConversionError, OSError) as error:
        if verbose and not json and isinstance(error, ConversionError | OSError):
            raise
        code = told(error, json=json)
    sys.exit(code if isinstance(code, int) else 0)


def _terminate(number: int, frame: object) -> None:
    raise KeyboardInterrupt("terminated")
