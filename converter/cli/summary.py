"""What a conversion made, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from converter.outputs import size

if TYPE_CHECKING:
    from converter.pipeline import Result

#: Seconds of work below which a rate says more about the clock than about the work.
MEASURABLE = 0.1


def print_tensors(result: Result) -> None:
    """Every tensor with its shape and type, under the name of its file where there are several."""
    width = max(len(name) for name in result.tensor_types)
    before = ""
    for name, kind in result.tensor_types.items():
        file = result.tensor_files.get(name, "")
        if file != before:
            click.echo(file)
            before = file
        shape = " × ".join(str(size) for size in result.tensor_shapes[name])
        click.echo(f"  {name:<{width}}  {kind:<6}  {shape}")


def print_summary(result: Result, *, dry_run: bool) -> None:
    """What was made, in plain words."""
    made = "would be" if dry_run else "is"
    click.echo(
        f"{result.output} {made} {size(result.output_bytes)} in {result.method}: {result.bits_per_weight:.2f} bits per "
        f"weight for {result.weights:,} weights, from {size(result.source_bytes)}"
    )
    if dry_run:
        return
    if result.url is not None:
        click.echo(f"uploaded to {result.url}")
    if result.known:
        click.echo("already made, and unchanged since; use --force to convert again")
        return
    seconds = result.seconds["write"]
    rate = f" ({size(int(result.source_bytes / seconds))}/s of source weights)" if seconds >= MEASURABLE else ""
    resumed = " after an interruption" if result.resumed else ""
    click.echo(f"written{resumed} in {seconds:.2f} s{rate}")
    if result.verification is None:
        click.echo("not verified (--verify none)")
    else:
        click.echo(f"verified in {result.seconds['verify']:.2f} s: {result.verification.verdict}")
