"""``convert prune``: forget results, and delete their files where that is asked for."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from converter.catalogue import FileDigest, Record


@click.command()
@click.argument("place", type=click.Path(path_type=Path), default=".")
@click.option("--keep", metavar="N", type=click.IntRange(0), help="Also forget all but the N newest results.")
@click.option("--older-than", metavar="DAYS", type=click.FloatRange(0), help="Also forget results older than this.")
@click.option("--files", is_flag=True, help="Delete the files of forgotten results, after asking.")
@click.option("--yes", is_flag=True, help="Do not ask before deleting.")
@click.option("--dry-run", is_flag=True, help="Print what would be done without doing it.")
def prune(place: Path, keep: int | None, older_than: float | None, files: bool, yes: bool, dry_run: bool) -> None:
    """Forget results whose files are gone, in the catalogue of the directory PLACE.  [default: here]

    Files are deleted only with --files, and only if they have not changed since they were recorded.
    """
    from converter.catalogue import Catalogue
    from converter.catalogue.database import locate

    with Catalogue(locate(place), writable=False) as catalogue:
        records = catalogue.records()
    chosen = choose(records, keep, older_than)
    doomed, others = ([], []) if not files else deletable(chosen)
    would = "would be " if dry_run else ""
    for record in chosen:
        click.echo(f"{record.id}: {record.first} in {record.method}, {reason(record)}: {would}forgotten")
    for file in others:
        click.echo(f"{file.path}: changed since it was made, kept")
    for file in doomed:
        click.echo(f"{file.path}: {would}deleted")
    if not chosen:
        click.echo("nothing to forget")
    if dry_run or not chosen:
        return
    if doomed and not yes and not click.confirm(f"delete {len(doomed)} files?"):
        click.echo("nothing done")
        return
    with Catalogue(locate(place)) as catalogue:
        for file in doomed:
            file.path.unlink(missing_ok=True)
        for record in chosen if files else ():
            with contextlib.suppress(OSError):  # not a directory, or not empty: the user's own files stay
                record.output.rmdir()
        catalogue.forget(chosen)


def choose(records: Sequence[Record], keep: int | None, older_than: float | None) -> list[Record]:
    """The results to forget: outputs that are gone, all but the newest, those of more days ago."""
    now = datetime.datetime.now(datetime.UTC)
    age = None if older_than is None else datetime.timedelta(days=older_than)
    surplus = 0 if keep is None else max(0, len(records) - keep)
    return [
        record
        for position, record in enumerate(records)
        if record.state == "gone"
        or position < surplus
        or (age is not None and now - datetime.datetime.fromisoformat(record.created) > age)
    ]


def deletable(records: Sequence[Record]) -> tuple[list[FileDigest], list[FileDigest]]:
    """Files of these results that are as recorded, and those that are something else by now."""
    there = [file for record in records for file in record.output_files if file.path.is_file()]
    return [file for file in there if file.unchanged()], [file for file in there if not file.unchanged()]


def reason(record: Record) -> str:
    """Why a person would agree."""
    return "its output is gone" if record.state == "gone" else f"made {record.created[:10]}"
