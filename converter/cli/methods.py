"""``convert methods``: what there is to choose from."""

from __future__ import annotations

import click


@click.command()
def methods() -> None:
    """List the methods, with bits per weight and when to use each."""
    from converter.formats import FORMATS, find_format
    from converter.quants import QUANT_TYPES
    from converter.recipes import METHODS

    click.echo(f"{'method':<8} {'bits per weight':>15}  when to use it")
    for method in METHODS.values():
        click.echo(f"{method.name:<8} {QUANT_TYPES[method.type].bits_per_weight:>15.2f}  {method.use}")
    click.echo(
        "\nMost methods keep some tensors, such as the output matrix, in types with more bits; --pure turns that off."
    )
    for other in (find_format(name) for name in FORMATS if name != "gguf"):
        click.echo(f"--format {other.name} has {', '.join(other.methods)}.")
