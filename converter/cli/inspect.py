"""``convert inspect FILE``: a GGUF's header as a table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="Print long values whole.")
def inspect(file: Path, everything: bool) -> None:
    """Print a GGUF file's key-values and tensors."""
    from converter.checkpoints.gguf import type_of
    from converter.gguf.reader import read_gguf_header

    header = read_gguf_header(file)
    click.echo(f"{file}: GGUF {header.version}, {file.stat().st_size / 1e6:.1f} MB")
    click.echo(f"\n{len(header.metadata)} key-values")
    width = max((len(pair.key) for pair in header.metadata), default=0)
    for pair in header.metadata:
        kind = pair.type.name.lower() + (f"/{pair.element.name.lower()}" if pair.element is not None else "")
        click.echo(f"  {pair.key:<{width}}  {kind:<13}  {shown(pair.value, everything)}")
    click.echo(f"\n{len(header.tensors)} tensors")
    width = max((len(tensor.name) for tensor in header.tensors), default=0)
    elements = nbytes = 0
    for tensor in header.tensors:
        kind_of = type_of(tensor, file)
        size = math.prod(tensor.shape[:-1]) * kind_of.row_bytes(tensor.shape[-1])
        shape = " × ".join(map(str, tensor.shape))
        click.echo(f"  {tensor.name:<{width}}  {kind_of.name:<6}  {shape:>16}  {size:>13,} bytes")
        elements += math.prod(tensor.shape)
        nbytes += size
    if elements:
        click.echo(f"\n{elements:,} weights in {nbytes:,} bytes: {8 * nbytes / elements:.2f} bits per weight")


def shown(value: Any, everything: bool) -> str:
    """A value on one line; long ones are cut and counted unless ``everything``."""
    if isinstance(value, list) and not everything and len(value) > 6:
        return f"[{', '.join(repr(item) for item in value[:6])}, …] ({len(value)})"
    text = repr(value) if isinstance(value, str | list | bytes) else str(value)
    return text if everything or len(text) <= 100 else f"{text[:97]}… ({len(text)} characters)"
