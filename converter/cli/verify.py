"""``convert verify FILE --model SOURCE``: hold any output against the model that it was made of."""

from __future__ import annotations

from typing import Any

import click


@click.command()
@click.argument("output", metavar="FILE")
@click.option(
    "--model", metavar="MODEL", required=True, help="Model that it was made from: a directory, a GGUF or ORG/NAME."
)
@click.option(
    "--level",
    type=click.Choice(["load", "full"]),
    default="full",
    show_default=True,
    help="load: it loads, tokenizes and generates; full: its predictions are also compared with the source's.",
)
@click.option("--method", metavar="NAME", help="Method whose thresholds apply.  [default: the one that FILE names]")
@click.option(
    "--tokenizer", metavar="MODEL", help="Directory with the tokenizer's files, if they are not with the model."
)
@click.option("--adapter", "adapters", metavar="MODEL", multiple=True, help="LoRA adapter that was merged into it.")
@click.option("--pre", metavar="NAME", help="Pre-tokenizer that FILE was made with, if it was given with --pre.")
@click.option("--threads", type=click.IntRange(1), help="Number of threads.  [default: all processors]")
@click.option(
    "--batch-size", type=click.IntRange(1), default=1, show_default=True, help="Windows of text processed at once."
)
@click.option("--trust-remote-code", is_flag=True, help="Allow transformers to run the checkpoint's own code.")
@click.option("--quiet", "-q", is_flag=True, help="Print only errors.")
@click.pass_context
def verify(context: click.Context, /, *, output: str, model: str, quiet: bool, **options: Any) -> None:
    """Verify a GGUF file or a model directory, made here or elsewhere, against its source.

    \b
        convert verify my-model-q4_0.gguf --model ./my-model

    A file that was kept as FILE.unverified is renamed to FILE once it passes.
    """
    from converter.cli.logs import configure_logs
    from converter.errors import VerificationError
    from converter.pipeline import verify_output

    quiet = quiet or (context.parent is not None and context.parent.params["quiet"])
    configure_logs(quiet=quiet)
    found = verify_output(
        output, model, **options, progress=lambda at: None if quiet else click.echo(f"verifying: {at.item}", err=True)
    )
    for warning in found.warnings:
        click.echo(f"convert: warning: {warning}", err=True)
    if not found.passed:
        raise VerificationError(f"{output}: {found.verdict}")
    if not quiet:
        click.echo(f"{output.removesuffix('.unverified')}: {found.verdict}")
