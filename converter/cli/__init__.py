"""The command line: thin commands that parse, call one function and print."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import click

from converter.cli.failures import told
from converter.cli.group import ConvertGroup
from converter.cli.parameters import ByteSize
from converter.errors import ConversionError


@click.group(
    cls=ConvertGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--model",
    metavar="MODEL",
    help="Checkpoint directory, GGUF file, Hub id (ORG/NAME[@REVISION]) or URL (s3://, gs://, hf://).",
)
@click.option("--adapter", "adapters", metavar="DIR", multiple=True, help="LoRA adapter to merge; may be repeated.")
@click.option("--stream", is_flag=True, help="Read the Hub's weights by ranges while converting; store none of them.")
@click.option("--method", metavar="NAME", help="How to store the weights, e.g. q4_0 or q8_0; see: convert methods.")
@click.option(
    "--output",
    metavar="PATH",
    help="What to write: a GGUF file, or a directory for it; for other formats the model's directory; or a URL.  "
    "[default: MODEL-METHOD.gguf here]",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["gguf", "safetensors", "pytorch"]),
    help="Container.  [default: gguf]",
)
@click.option("--split-max-size", type=ByteSize(), help="Bytes of a file at most: the output in parts, e.g. 4G, 500M.")
@click.option(
    "--split-max-tensors", type=click.IntRange(1), help="Tensors of a GGUF file at most: the output in parts."
)
@click.option("--modelfile", is_flag=True, help="Write Ollama's Modelfile beside the GGUF.")
@click.option("--push-to-hub", metavar="ORG/NAME", help="Upload the output to this repository, with a model card.")
@click.option("--config", metavar="FILE", help="The same run as YAML; options given here override it.")
@click.option("--tokenizer", metavar="DIR", help="Tokenizer's files, where they are not in the model's directory.")
@click.option("--pre", metavar="NAME", help="llama.cpp's pre-tokenizer, overriding the one derived and proved.")
@click.option("--imatrix", metavar="FILE", multiple=True, help="Importance matrix; several are added up.")
@click.option("--calibrate", metavar="TEXT", multiple=True, help="Measure the importance matrix on this text first.")
@click.option("--tensor-type", metavar="REGEX=TYPE", multiple=True, help="Type of the tensors whose name matches.")
@click.option("--output-type", metavar="TYPE", help="Type of the output matrix.")
@click.option("--embedding-type", metavar="TYPE", help="Type of the token embeddings.")
@click.option("--leave-output", is_flag=True, help="Keep the output matrix in float32.")
@click.option("--allow-requantize", is_flag=True, help="Quantize again what a GGUF source holds quantized.")
@click.option("--pure", is_flag=True, help="One type for every matrix, the output's included.")
@click.option("--include-weights", metavar="PART", multiple=True, help="Use importance for tensors of this name only.")
@click.option("--exclude-weights", metavar="PART", multiple=True, help="Use no importance for tensors of this name.")
@click.option("--override-kv", metavar="KEY=TYPE:VALUE", multiple=True, help="Set a key-value of the header.")
@click.option("--prune-layers", metavar="N,N,…", help="Leave these blocks out.")
@click.option("--recipe", metavar="FILE", help="A YAML file with a recipe of your own; see configs/recipe.yaml.")
@click.option("--threads", type=click.IntRange(1), help="Worker threads.  [default: the processors of this machine]")
@click.option("--dry-run", is_flag=True, help="Plan and prove the tokenizer, print what would be made, write nothing.")
@click.option(
    "--verify",
    type=click.Choice(["none", "load", "full"]),
    help="Check the output: it is loaded, tokenizes like the source and generates; full also compares logits.  "
    "[default: load]",
)
@click.option("--trust-remote-code", is_flag=True, help="Let transformers run the checkpoint's own code.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option(
    "--catalogue", metavar="FILE", help="Where results are recorded.  [default: catalogue.sqlite beside the output]"
)
@click.option("--no-catalogue", is_flag=True, help="Record nothing.")
@click.option("--force", is_flag=True, help="Convert even if the catalogue knows this very output; replaces it.")
@click.option("--verbose", "-v", is_flag=True, help="Print every tensor; on failure, a traceback.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
@click.option("--log-json", is_flag=True, help="Tell of each step on standard error as a line of JSON.")
@click.version_option(package_name="converter", prog_name="convert")
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> None:
    """Turn a language-model checkpoint into a small, fast, verified file.

    \b
        convert --method q4_0 --model ./my-model --output my-model-q4_0.gguf

    The weights are read once, in pieces, and the file is checked against its source before it gets its name. A run
    that was interrupted goes on where it stopped when the same command is given again.
    """
    if context.invoked_subcommand is None:
        if not any(options[name] for name in ("model", "method", "config", "output")):
            click.echo(context.get_help())
            return
        from converter.cli.convert import run

        run(**options)


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
