"""``convert adapter DIR --base MODEL --output FILE``: a LoRA adapter as a GGUF of its own."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("adapter", metavar="DIR")
@click.option("--base", metavar="MODEL", required=True, help="Model that it was trained on: a directory or ORG/NAME.")
@click.option("--output", metavar="FILE", required=True, type=click.Path(path_type=Path), help="File to write.")
@click.option(
    "--type",
    "kind",
    type=click.Choice(["f32", "f16", "bf16", "q8_0"]),
    default="f32",
    show_default=True,
    help="Type of the matrices.",
)
@click.option("--overwrite", is_flag=True, help="Replace existing output.")
@click.option("--quiet", "-q", is_flag=True, help="Print only errors.")
@click.pass_context
def adapter(
    context: click.Context, /, adapter: str, base: str, output: Path, kind: str, *, overwrite: bool, quiet: bool
) -> None:
    """Convert a PEFT LoRA adapter to a GGUF, which llama.cpp applies to the GGUF of its base model at run time.

    \b
        convert adapter ./my-adapter --base ./my-model --output my-adapter.gguf
        llama-cli --model my-model-q4_0.gguf --lora my-adapter.gguf

    Only the headers of the base model are read. To merge an adapter into a model instead, convert the model with
    --adapter.
    """
    from converter.adapters.export import export_adapter
    from converter.checkpoints import open_checkpoint
    from converter.cli.logs import configure_logs
    from converter.sources import is_remote, open_source

    quiet = quiet or (context.parent is not None and context.parent.params["quiet"])
    configure_logs(quiet=quiet)
    with (
        open_source(adapter) as found,
        open_source(base, stream=is_remote(base)) as source,
        open_checkpoint(source.path, source.elsewhere) as model,
    ):
        made = export_adapter(
            found.path, model, output, kind, name=found.name, overwrite=overwrite, elsewhere=found.elsewhere
        )
    if not quiet:
        click.echo(
            f"{output} is {made.nbytes / 1e6:,.2f} MB: a LoRA in {kind} for {made.adapted} tensors of a base of "
            f"architecture {made.arch}"
        )
