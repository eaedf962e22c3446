"""A conversion from the command line: options over configuration, a bar, a summary."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converter.errors import UsageError

if TYPE_CHECKING:
    from tqdm import tqdm

    from converter.pipeline import Progress, Result


def run(**options: Any) -> None:
    """Convert as the options and the configuration file say, and print what was made."""
    settings, verbose = merge(options)
    quiet = options["quiet"]
    logging.basicConfig(
        format="convert: %(message)s", level=logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING
    )
    logging.getLogger("gguf").setLevel(logging.WARNING)
    from converter.pipeline import convert

    bar = Bar(hidden=quiet)
    try:
        result = convert(**settings, progress=bar.show)
    finally:
        bar.close()
    for warning in result.warnings:
        click.echo(f"convert: warning: {warning}", err=True)
    if not quiet:
        if settings["dry_run"] or verbose:
            print_tensors(result)
        print_summary(result, dry_run=settings["dry_run"])


def merge(options: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Arguments of ``converter.convert`` from the command line, the configuration behind it; and ``verbose``."""
    from converter.config import Recipe, read_configuration, read_recipe

    settings = {
        "model": options["model"],
        "method": options["method"],
        "output": options["output"],
        "output_format": options["output_format"],
        "tokenizer": options["tokenizer"],
        "imatrix": options["imatrix"],
        "calibrate": options["calibrate"],
        **{name: options[name] for name in ("pre", "threads", "dry_run", "verify", "overwrite", "allow_requantize")},
    }
    verbose, recipe = options["verbose"], Recipe()
    if options["config"] is not None:
        file = read_configuration(Path(options["config"]))
        verbose = verbose or file.verbose
        behind = {
            "model": file.model.model_name,
            "method": file.method,
            "output": file.output_path,
            "output_format": file.output_format,
            "tokenizer": file.model.tokenizer_name,
            "imatrix": file.imatrix,
            "calibrate": file.calibrate,
        }
        settings |= {name: value for name, value in behind.items() if settings[name] in (None, ())}
        recipe = file.recipe
        settings |= dict(file.model.model_kwargs) | {"batch_size": file.batch_size}
    for name in ("model", "method"):
        if settings[name] is None:
            raise UsageError(f"--{name} is missing; convert --help shows an example")
    settings["output_format"] = settings["output_format"] or "gguf"
    if options["recipe"] is not None:
        recipe = read_recipe(Path(options["recipe"]))
    settings["overrides"] = recipe.overrides(options)
    return settings, verbose


#: Unit of each stage that is measured.
UNITS = {"write": "B", "calibrate": " tokens"}
#: What a step of the other stages is introduced with.
STEPS = {"read": "reading ", "calibrate": "calibrating: ", "verify": "verifying: "}


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
    """Every tensor with its shape and type."""
    width = max(len(name) for name in result.tensor_types)
    for name, kind in result.tensor_types.items():
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
    seconds = result.seconds["write"]
    resumed = ", going on from an interrupted run" if result.resumed else ""
    click.echo(f"written in {seconds:.2f} s{resumed}: {result.source_bytes / seconds / 1e9:.2f} GB/s of source weights")
    if result.verification is None:
        click.echo("not verified (--verify none)")
    else:
        click.echo(f"verified in {result.seconds['verify']:.2f} s: {result.verification.verdict}")


def size(nbytes: int) -> str:
    """Bytes in the unit a person would use."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= scale:
            return f"{nbytes / scale:.2f} {unit}"
    return f"{nbytes} bytes"
