"""A conversion from the command line: options over configuration, a bar, a summary."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converter.outputs import size

if TYPE_CHECKING:
    from tqdm import tqdm

    from converter.pipeline import Progress, Result


def run(**options: Any) -> None:
    """Convert as the options and the configuration file say, and print what was made."""
    from converter.logs import ProgressLog, configure_logs, event, log_result

    quiet, as_json = options["quiet"], options["log_json"]
    configure_logs(json=as_json, verbose=options["verbose"], quiet=quiet)
    bar = Bar(hidden=quiet or as_json)
    with contextlib.closing(bar):
        settings, verbose = settings_of(options)
        configure_logs(json=as_json, verbose=verbose, quiet=quiet)
        if as_json:
            asked = {name: str(settings.get(name)) for name in ("model", "method", "output")}
            event("started", f"{settings['method']} of {settings['model']}", **asked)
        from converter.pipeline import convert

        result = convert(**settings, progress=ProgressLog().show if as_json else bar.show)
    if as_json:
        log_result(result)
    else:
        for warning in result.warnings:
            click.echo(f"convert: warning: {warning}", err=True)
    if not quiet:
        if options["dry_run"] or verbose:
            print_tensors(result)
        print_summary(result, dry_run=options["dry_run"])


def settings_of(options: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Arguments of ``converter.convert`` from the command line, the configuration behind it; and ``verbose``."""
    from converter.config.merging import merge

    file: dict[str, Any] = {}
    if options["config"] is not None:
        from converter.config.schema import read_configuration

        file = read_configuration(Path(options["config"]))
    settings = merge(options, file, None if options["recipe"] is None else Path(options["recipe"]))
    if options["no_catalogue"]:
        settings["catalogue"] = ""
    return settings, options["verbose"] or file.get("verbose", False)


#: Unit of each stage that is measured.
UNITS = {"fetch": "B", "write": "B", "calibrate": " tokens", "deliver": "B"}
#: What a step of the other stages is introduced with.
STEPS = {
    "fetch": "fetching ",
    "read": "reading ",
    "write": "writing ",
    "calibrate": "calibrating: ",
    "verify": "verifying: ",
    "deliver": "delivering ",
}


class Bar:
    """Progress on standard error: a line for each step, a bar with rate and remaining time where there is a measure."""

    def __init__(self, *, hidden: bool) -> None:
        self.hidden = hidden
        self._bar: tqdm[Any] | None = None
        self._stage = ""

    def show(self, progress: Progress) -> None:
        if self.hidden:
            return
        if progress.stage != self._stage:
            self.close()
            self._stage = progress.stage
        if not progress.total:
            click.echo(STEPS[progress.stage] + progress.item, err=True)
            return
        if self._bar is None:
            from tqdm import tqdm

            unit = UNITS[progress.stage]
            self._bar = tqdm(total=progress.total, unit=unit, unit_scale=True, dynamic_ncols=True, file=sys.stderr)
        self._bar.set_postfix_str(progress.item, refresh=False)
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


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
        click.echo("known from the catalogue, unchanged since; --force converts all the same")
        return
    seconds = result.seconds["write"]
    resumed = ", going on from an interrupted run" if result.resumed else ""
    click.echo(f"written in {seconds:.2f} s{resumed}: {result.source_bytes / seconds / 1e9:.2f} GB/s of source weights")
    if result.verification is None:
        click.echo("not verified (--verify none)")
    else:
        click.echo(f"verified in {result.seconds['verify']:.2f} s: {result.verification.verdict}")
