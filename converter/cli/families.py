"""``convert families``: the architectures that can be converted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from converter.architectures import Family


@click.command()
@click.option("--markdown", is_flag=True, help="Print a Markdown table.")
def families(markdown: bool) -> None:
    """List the supported architectures: the family, llama.cpp's name, and the class names in config.json."""
    rows = family_table()
    if markdown:
        click.echo("| family | `architectures` in config.json | in llama.cpp |\n|---|---|---|")
        for family, classes, arch in rows:
            click.echo(f"| {family} | {', '.join(f'`{name}`' for name in classes)} | `{arch}` |")
        return
    width = max(len(family) for family, _, _ in rows)
    for family, classes, arch in rows:
        click.echo(f"{family:<{width}}  {arch:<14}  {', '.join(classes)}")


def family_table() -> list[tuple[str, list[str], str]]:
    """Of each family its name, the class names it converts, and llama.cpp's name of its architecture."""
    from converter.architectures import FAMILIES

    rows: dict[type[Family], list[str]] = {}
    for name, family in FAMILIES.items():
        rows.setdefault(family, []).append(name)
    return sorted((family.__name__, sorted(names), family.arch) for family, names in rows.items())
