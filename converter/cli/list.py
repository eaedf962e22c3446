"""``convert list``: what the catalogue knows."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("place", type=click.Path(path_type=Path), default=".")
@click.option("--method", metavar="NAME", help="Only results of this method.")
@click.option("--source", metavar="TEXT", help="Only results whose source has this in its name.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def list(place: Path, method: str | None, source: str | None, as_json: bool) -> None:
    """List the results recorded in the directory PLACE.  [default: here]"""
    from converter.catalogue import Catalogue
    from converter.catalogue.database import locate
    from converter.cli.table import print_columns, short_origin, short_path, short_verdict
    from converter.outputs import size

    with Catalogue(locate(place), writable=False) as catalogue:
        records = [
            record
            for record in catalogue.records()
            if (method is None or record.method == method.lower()) and (source or "") in record.origin
        ]
    if as_json:
        click.echo(json.dumps([record.as_json() for record in records], indent=2))
        return
    print_columns(
        ("id", "when (UTC)", "source", "method", "size", "bits/weight", "verified", "output"),
        [
            (
                str(record.id),
                record.created[:16].replace("T", " "),
                short_origin(record.origin),
                record.method,
                size(record.output_bytes),
                f"{record.bits_per_weight:.2f}",
                short_verdict(record),
                short_path(record.first) + ("" if record.state == "there" else f" ({record.state})"),
            )
            for record in records
        ],
        right=("id", "size", "bits/weight"),
    )
