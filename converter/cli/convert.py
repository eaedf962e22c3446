"""A conversion from the command line: words and options over configuration, a bar, a summary for each output."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from converter.pipeline import Result
    from converter.pipeline.ongoing import Outcome
    from converter.request import Request


@dataclass(frozen=True)
class Asked:
    """What the command line and the configuration file ask for together.

    Attributes:
        requests: one for each method, of one model.
        notes: what was understood or chosen, one sentence each.
        verbose: print every tensor.
    """

    requests: Sequence[Request]
    notes: Sequence[str]
    verbose: bool


def run(words: Sequence[str], **options: Any) -> int:
    """Convert as words, options and the configuration file say, print what was made, and return the exit code.

    Raises:
        ConversionError: the only output that is asked for cannot be made; of several, failures are told one by one.
    """
    from converter.cli.logs import ProgressLog, configure_logs, event
    from converter.cli.progress import Bar
    from converter.errors import ConversionError

    quiet, as_json = options["quiet"], options["log_json"]
    configure_logs(json=as_json, verbose=options["verbose"], quiet=quiet)
    bar = Bar(hidden=quiet or as_json)
    with contextlib.closing(bar):
        asked = understood(words, options)
        configure_logs(json=as_json, verbose=asked.verbose, quiet=quiet)
        for note in () if quiet or as_json else asked.notes:
            click.echo(f"convert: {note}", err=True)
        if as_json:
            for request in asked.requests:
                fields = {name: str(getattr(request, name)) for name in ("model", "method", "output")}
                event("started", f"{request.method} of {request.model}", **fields)
        from converter.pipeline import convert, convert_together

        progress = ProgressLog().show if as_json else bar.show
        if len(asked.requests) == 1:
            outcomes: Sequence[Outcome] = [convert(**vars(asked.requests[0]), progress=progress)]
        else:
            outcomes = convert_together(asked.requests, progress=progress)
    code = 0
    for request, outcome in zip(asked.requests, outcomes, strict=True):
        if isinstance(outcome, ConversionError):
            code = code or outcome.exit_code
            event("failed", f"{request.method}: {outcome}", error=type(outcome).__name__, exit_code=outcome.exit_code)
        else:
            tell(outcome, quiet=quiet, as_json=as_json, dry_run=request.dry_run, verbose=asked.verbose)
    return code


def tell(result: Result, *, quiet: bool, as_json: bool, dry_run: bool, verbose: bool) -> None:
    """Warnings on standard error, the summary on standard output."""
    from converter.cli.logs import log_result
    from converter.cli.summary import print_summary, print_tensors

    if as_json:
        log_result(result)
    else:
        for warning in result.warnings:
            click.echo(f"convert: warning: {warning}", err=True)
    if not quiet:
        if dry_run or verbose:
            print_tensors(result)
        print_summary(result, dry_run=dry_run)


def understood(words: Sequence[str], options: Mapping[str, Any]) -> Asked:
    """What is asked for, the configuration file behind words and options.

    Raises:
        UsageError: words, options or the file do not say what to do.
    """
    from converter.cli.arguments import check_methods, is_method, outputs_of, settle_words
    from converter.config.merging import merge
    from converter.recipes.method_names import DEFAULTS
    from converter.request import Request

    file: dict[str, Any] = {}
    if options["config"] is not None:
        from converter.config.schema import read_configuration

        file = read_configuration(Path(options["config"]))
    model = options["model"]
    if model is None and words and is_method(words[0]):
        model = file.get("model")
    container = options["output_format"] or file.get("output_format", Request.output_format)
    model, names = settle_words(words, model, options["method"], container)
    notes = []
    if not names and "method" in file:
        names = [file["method"]]
    elif not names and (model or file.get("model")):
        names = [DEFAULTS[container]]
        notes.append(f"no method given, using {names[0]}; convert methods lists the others")
    methods = check_methods(names, container)
    notes += [f"{name} is {method} here" for name, method in methods if name.lower() != method]
    given = {**options, "model": model, "method": methods[0][1] if methods else None}
    arguments = merge(given, file, None if options["recipe"] is None else Path(options["recipe"]))
    if options["no_catalogue"]:
        arguments["catalogue"] = ""
    chosen = [method for _, method in methods]
    outputs = outputs_of(arguments.get("output"), arguments["model"], chosen, container)
    requests = [
        Request(**{**arguments, "method": method, "output": output})
        for method, output in zip(chosen, outputs, strict=True)
    ]
    return Asked(requests, notes, options["verbose"] or file.get("verbose", False))
