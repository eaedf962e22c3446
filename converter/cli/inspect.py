"""``convert inspect FILE``: a GGUF's header as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from converter.errors import CheckpointError


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="Print long values whole.")
def inspect(file: Path, everything: bool) -> None:
    """Print a GGUF file's key-values and tensors."""
    reader = open_gguf(file)
    pairs = [(name, field) for name, field in reader.fields.items() if not name.startswith("GGUF.")]
    click.echo(f"{file}: GGUF {reader.fields['GGUF.version'].contents()}, {file.stat().st_size / 1e6:.1f} MB")
    click.echo(f"\n{len(pairs)} key-values")
    width = max((len(name) for name, _ in pairs), default=0)
    for name, field in pairs:
        kind = "/".join(part.name.lower() for part in field.types)
        click.echo(f"  {name:<{width}}  {kind:<13}  {shown(field.contents(), everything)}")
    click.echo(f"\n{len(reader.tensors)} tensors")
    width = max((len(tensor.name) for tensor in reader.tensors), default=0)
    elements = nbytes = 0
    for tensor in reader.tensors:
        shape = " × ".join(str(size) for size in reversed(tensor.shape.tolist()))
        click.echo(
            f"  {tensor.name:<{width}}  {tensor.tensor_type.name.lower():<6}  {shape:>16}  {tensor.n_bytes:>13,} bytes"
        )
        elements += int(tensor.n_elements)
        nbytes += int(tensor.n_bytes)
    if elements:
        click.echo(f"\n{elements:,} weights in {nbytes:,} bytes: {8 * nbytes / elements:.2f} bits per weight")


def open_gguf(file: Path) -> Any:
    """gguf's reader of a file; CheckpointError, one line, for whatever is wrong with it."""
    from gguf import GGUFReader

    try:
        with file.open("rb") as stream:
            magic = stream.read(4)
        if magic != b"GGUF":
            raise CheckpointError(f"{file}: not a GGUF file: it starts with {magic!r}, b'GGUF' expected")
        return GGUFReader(file)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise CheckpointError(f"{file}: damaged or cut short: {' '.join(str(error).split())}") from None


def shown(value: Any, everything: bool) -> str:
    """A value on one line; long ones are cut and counted unless ``everything``."""
    if isinstance(value, list) and not everything and len(value) > 6:
        return f"[{', '.join(repr(item) for item in value[:6])}, …] ({len(value)})"
    text = repr(value) if isinstance(value, str | list) else str(value)
    return text if everything or len(text) <= 100 else f"{text[:97]}… ({len(text)} characters)"
