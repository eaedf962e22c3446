"""``convert show ID|OUTPUT``: everything that is known of one result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converter.errors import UsageError

if TYPE_CHECKING:
    from converter.catalogue import Record


@click.command()
@click.argument("which", metavar="ID|OUTPUT")
@click.option(
    "--catalogue",
    "place",
    type=click.Path(path_type=Path),
    help="Catalogue or its directory.  [default: next to OUTPUT; for an ID, here]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(which: str, place: Path | None, as_json: bool) -> None:
    """Show one result, by its number in convert list or by its output."""
    from converter.catalogue import Catalogue, default_catalogue
    from converter.catalogue.database import locate

    number = int(which) if which.isascii() and which.isdigit() else None
    beside = Path() if number is not None else default_catalogue(Path(which))
    with Catalogue(locate(place or beside), writable=False) as catalogue:
        record = catalogue.get(Path(which) if number is None else number)
    if record is None:
        raise UsageError(f"{which}: the catalogue {catalogue.path} has no such result; convert list shows what it has")
    if as_json:
        click.echo(json.dumps(record.as_json(), indent=2))
    else:
        print_record(record)


def print_record(record: Record) -> None:
    """A line for each fact, files and choices in lines of their own."""
    from converter.outputs import size

    facts = record.as_json()
    nested = {name: facts.pop(name) for name in ("recipe", "versions", "seconds", "verification")}
    files = {name: facts.pop(name) for name in ("source_files", "output_files")}
    warnings, _ = facts.pop("warnings"), facts.pop("files")
    for name, value in facts.items():
        if value not in (None, ""):
            shown = size(value) if name.endswith("_bytes") else figure(value) if isinstance(value, float) else value
            click.echo(f"{name.replace('_', ' ')}: {shown}")
    for name, values in nested.items():
        click.echo(f"{name}:" if values else f"{name}: none")
        for key, value in (values or {}).items():
            if value is None:
                continue
            click.echo(f"  {key.replace('_', ' ')}: {figure(value)}")
    for name, digests in files.items():
        click.echo(f"{name.replace('_', ' ')}:")
        for file in digests:
            click.echo(f"  {file['sha256']}  {file['path']} ({size(file['size'])})")
    for warning in warnings:
        click.echo(f"warning: {warning}")


def figure(value: Any) -> str:
    """A number with the digits that a person reads; a text that would break its line, quoted."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)
