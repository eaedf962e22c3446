"""``convert verify FILE --model SOURCE``: hold any output against the model that it was made of."""

from __future__ import annotations

from typing import Any

import click


@click.command()
@click.argument("output", metavar="FILE")
@click.option("--model", metavar="MODEL", required=True, help="What it was made of: a directory, a GGUF or a Hub id.")
@click.option(
    "--level",
    type=click.Choice(["load", "full"]),
    default="full",
    show_default=True,
    help="load: it loads, tokenizes and generates; full: its predictions are compared with the source's, too.",
)
@click.option("--method", metavar="NAME", help="Method whose thresholds count.  [default: the one that FILE names]")
@click.option("--tokenizer", metavar="MODEL", help="The tokenizer's files, where they are not with the model.")
@click.option("--adapter", "adapters", metavar="MODEL", multiple=True, help="LoRA adapter that was merged into it.")
@click.option("--pre", metavar="NAME", help="Pre-tokenizer that FILE was made with against the tokenizer's proof.")
@click.option("--threads", type=click.IntRange(1), help="Threads to compute with.  [default: the processors]")
@click.option("--batch-size", type=click.IntRange(1), default=1, show_default=True, help="Windows of text run at once.")
@click.option("--trust-remote-code", is_flag=True, help="Let transformers run the checkpoint's own code.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
@click.pass_context
def verify(context: click.Context, /, *, output: str, model: str, quiet: bool, **options: Any) -> None:
    """Verify a GGUF file or a model directory, made here or elsewhere, against its source.

    \b
        convert verify my-model-q4_0.gguf --model ./my-model

    An output that is kept as FILE.unverified gets its name once it has passed.
    """
    from converter.errors import VerificationError
    from converter.logs import configure_logs
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
