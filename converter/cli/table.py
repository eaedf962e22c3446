"""Rows of text in columns, and how a result of the catalogue is shown in one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from converter.catalogue import Record


def print_columns(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """A table on standard output; columns named in ``right`` are aligned to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        cells = (
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(header, row, widths, strict=True)
        )
        click.echo("  ".join(cells).rstrip())


def short_origin(origin: str) -> str:
    """A source as a person names it: ``org/name@commit`` of the Hub, a URL, or the name of a directory or file."""
    if origin.startswith("hub:"):
        name, _, commit = origin.removeprefix("hub:").partition("@")
        return f"{name}@{commit[:8]}" if commit else name
    return origin if "://" in origin else Path(origin).name


def short_verdict(record: Record) -> str:
    """Level and finding of a verification."""
    if record.verification is None:
        return "no"
    return str(record.verification["level"]) if record.passed else "failed"


def short_path(path: Path) -> str:
    """Relative to the working directory where it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
