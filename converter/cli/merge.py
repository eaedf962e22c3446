"""``convert merge PART… --output FILE``: the parts of a split GGUF joined."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.argument("parts", metavar="PART…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", metavar="FILE", required=True, type=click.Path(path_type=Path), help="File to write.")
@click.option("--overwrite", is_flag=True, help="Replace existing output.")
@click.option("--quiet", "-q", is_flag=True, help="Print only errors.")
@click.pass_context
def merge(context: click.Context, /, parts: tuple[Path, ...], output: Path, *, overwrite: bool, quiet: bool) -> None:
    """Join the parts of a split GGUF into one file again.

    \b
        convert merge model-00001-of-00003.gguf --output model.gguf

    One part is enough if the others are in the same directory; otherwise list them all.
    """
    from tqdm import tqdm

    from converter.gguf.merge import merge as join

    quiet = quiet or (context.parent is not None and context.parent.params["quiet"])
    with tqdm(unit="B", unit_scale=True, dynamic_ncols=True, file=sys.stderr, disable=quiet) as bar:

        def show(done: int, total: int, item: str) -> None:
            bar.total = total
            bar.set_postfix_str(item, refresh=False)
            bar.update(done - bar.n)

        merged = join(parts, output, overwrite=overwrite, progress=show)
    if not quiet:
        click.echo(f"{output} is {merged.nbytes / 1e6:,.2f} MB: {merged.tensors} tensors from {merged.parts} parts")
