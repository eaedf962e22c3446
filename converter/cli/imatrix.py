"""``convert imatrix``: measure how much each column of the weights matters, combine what was measured, print it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converter.errors import UsageError

if TYPE_CHECKING:
    from converter.imatrix import ImportanceMatrix


@click.command()
@click.option("--model", metavar="PATH", help="GGUF file, or a checkpoint, which is converted first.")
@click.option("--text", "texts", multiple=True, metavar="FILE", help="Text to run, in UTF-8; repeatable.")
@click.option("--output", metavar="FILE", help="File to write, in llama.cpp's format of that suffix: .gguf or .dat.")
@click.option(
    "--chunk-size",
    "--context",
    "chunk_size",
    type=click.IntRange(1),
    help="Tokens per chunk; with --combine, those of a .dat file.  [default: 512, or the context if shorter]",
)
@click.option("--chunks", type=click.IntRange(1), help="Maximum number of chunks to run.  [default: the whole text]")
@click.option("--threads", type=click.IntRange(1), help="Number of threads.  [default: all processors]")
@click.option("--process-output", is_flag=True, help="Include output.weight, which is otherwise left out.")
@click.option(
    "--save-every", type=click.IntRange(1), default=10, show_default=True, help="Save after this many chunks."
)
@click.option("--combine", multiple=True, metavar="FILE", help="Existing matrix to add up with others; repeatable.")
@click.option("--show", metavar="FILE", help="Print a matrix as a table, a line for each tensor.")
@click.option("--overwrite", is_flag=True, help="Replace existing output.")
@click.option("--quiet", "-q", is_flag=True, help="Print only errors.")
@click.pass_context
def imatrix(context: click.Context, /, **options: Any) -> None:
    """Measure an importance matrix: run a model on text and add up its squared activations.

    \b
        convert imatrix --model ./my-model --text calibration.txt --output imatrix.gguf

    To continue an interrupted run from where it last saved, run the same command again.
    """
    above = context.parent.params if context.parent is not None else {}
    quiet = options.pop("quiet") or above.get("quiet", False)
    asked = [name for name in ("model", "combine", "show") if options[name]]
    if len(asked) != 1:
        found = " and ".join(f"--{name}" for name in asked) or "none of them"
        raise UsageError(f"one of --model, --combine and --show is expected, {found} is given")
    show, files = options.pop("show"), options.pop("combine")
    if show:
        print_table(Path(show))
        return
    if options["output"] is None:
        raise UsageError("--output is missing; convert imatrix --help shows an example")
    if files:
        matrix = combine_files(files, Path(options["output"]), options["chunk_size"], overwrite=options["overwrite"])
    elif not options["texts"]:
        raise UsageError("--text is missing; convert imatrix --help shows an example")
    else:
        matrix = run(**options, quiet=quiet)
    if not quiet:
        print_summary(Path(options["output"]), matrix)


def run(*, quiet: bool, **options: Any) -> ImportanceMatrix:
    """Collect with a bar in tokens."""
    from tqdm import tqdm

    from converter.imatrix import Progress
    from converter.pipeline import collect

    bar: tqdm[Any] | None = None

    def show(progress: Progress) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(
                total=progress.total, initial=progress.done, unit="token", unit_scale=True, dynamic_ncols=True,
                file=sys.stderr, disable=quiet,
            )  # fmt: skip
        bar.update(progress.done - bar.n)

    try:
        return collect(**options, progress=show)
    finally:
        if bar is not None:
            bar.close()


def combine_files(files: tuple[str, ...], output: Path, chunk_size: int | None, *, overwrite: bool) -> ImportanceMatrix:
    """Write the sum of several files."""
    from converter.imatrix import combine, read_imatrix, write_imatrix
    from converter.imatrix.matrix import CHUNK_SIZE
    from converter.outputs import check_output, make_parents

    check_output(output, overwrite=overwrite)
    matrix = combine([read_imatrix(file, chunk_size or CHUNK_SIZE) for file in files])
    make_parents(output)
    write_imatrix(output, matrix)
    return matrix


def print_summary(output: Path, matrix: ImportanceMatrix) -> None:
    """What was made, in one line."""
    click.echo(
        f"{output} is {output.stat().st_size / 1e6:.2f} MB: {len(matrix.entries)} tensors, measured on "
        f"{matrix.chunk_count:,} chunks of {matrix.chunk_size} tokens"
    )


def print_table(file: Path) -> None:
    """Each tensor with its columns, how many rows were summed, their mean square and the share of dead columns."""
    from converter.imatrix import read_imatrix

    matrix = read_imatrix(file)
    texts = ", ".join(name if name.isprintable() else repr(name) for name in matrix.datasets) or "an unnamed text"
    click.echo(f"{file}: {matrix.chunk_count:,} chunks of {matrix.chunk_size} tokens from {texts}")
    width = max(len(name) for name in matrix.entries)
    click.echo(f"{'tensor':<{width}}  {'columns':>12}  {'rows':>12}  {'mean square':>11}  {'zero columns':>12}")
    for name in sorted(matrix.entries, key=in_order):
        entry = matrix.entries[name]
        seen = entry.importance[entry.counts > 0]
        columns = " × ".join(str(size) for size in entry.sums.shape if size > 1)
        unused = int((entry.counts == 0).sum())
        note = f"  {unused} of {len(entry.counts)} experts without data" if unused else ""
        mean, zero = (seen.mean(), (seen == 0).mean()) if seen.size else (0, 1)
        click.echo(f"{name:<{width}}  {columns:>12}  {entry.counts.sum():>12,}  {mean:>11.4g}  {zero:>12.2%}{note}")


def in_order(name: str) -> list[tuple[int, str]]:
    """Sorts layer 10 after layer 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
