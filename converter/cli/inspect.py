"""``convert inspect FILE|DIR``: a GGUF's header, or a checkpoint, as a table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from converter.errors import UsageError


@click.command()
@click.argument("path", metavar="FILE|DIR", type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="Print long values in full.")
def inspect(path: Path, everything: bool) -> None:
    """Print what a GGUF file or a checkpoint's directory holds: key-values or config.json, and tensors."""
    if path.is_dir():
        print_checkpoint(path, everything)
    elif path.suffix == ".safetensors":
        raise UsageError(f"{path}: is one file of a checkpoint; inspect its directory: convert inspect {path.parent}")
    else:
        print_gguf(path, everything)


def print_checkpoint(directory: Path, everything: bool) -> None:
    """Print a checkpoint's configuration and tensors.

    Raises:
        CheckpointError: the directory holds none, or a damaged one.
    """
    from converter.checkpoints import open_checkpoint

    files = sorted(path.name for path in directory.glob("*.gguf"))
    if files and not (directory / "config.json").exists():
        raise UsageError(f"{directory}: holds GGUF files; inspect one of them: convert inspect {directory / files[0]}")
    with open_checkpoint(directory) as checkpoint:
        names = checkpoint.config.get("architectures") or [checkpoint.config.get("model_type", "an unknown class")]
        click.echo(f"{directory}: checkpoint of {', '.join(map(str, names))}, {checkpoint.nbytes / 1e6:.1f} MB")
        click.echo(f"\nconfig.json: {len(checkpoint.config)} keys")
        width = max((len(key) for key in checkpoint.config), default=0)
        for key, value in checkpoint.config.items():
            click.echo(f"  {key:<{width}}  {shown(value, everything)}")
        click.echo(f"\n{len(checkpoint.tensors)} tensors")
        width = max((len(name) for name in checkpoint.tensors), default=0)
        for name, tensor in checkpoint.tensors.items():
            shape = " × ".join(map(str, tensor.shape))
            click.echo(f"  {name:<{width}}  {tensor.dtype:<6}  {shape:>16}")
        elements = sum(math.prod(tensor.shape) for tensor in checkpoint.tensors.values())
        for notice in checkpoint.notices:
            click.echo(f"note: {notice}")
    if elements:
        bits = 8 * checkpoint.nbytes / elements
        click.echo(f"\n{elements:,} weights in {checkpoint.nbytes:,} bytes: {bits:.2f} bits per weight")
    click.echo(f"convert {directory} --dry-run shows what a conversion would make of it")


def print_gguf(file: Path, everything: bool) -> None:
    """Print a GGUF file's key-values and tensors.

    Raises:
        CheckpointError: it is none, or damaged.
    """
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
