"""``convert batch FILE``: many models by many methods, unattended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from converter.batch.expansion import Job
    from converter.batch.running import Outcome
    from converter.pipeline import Progress


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--resume", is_flag=True, help="Skip results that the catalogue already has.")
@click.option(
    "--jobs",
    "at_a_time",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Models to convert at the same time.",
)
@click.option("--threads", type=click.IntRange(1), help="Worker threads in total.  [default: all processors]")
@click.option("--dry-run", is_flag=True, help="Print the jobs without running them.")
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
@click.option("--force", is_flag=True, help="Convert even what the catalogue already has.")
@click.option("--log-json", is_flag=True, help="Log to standard error as JSON, one object per line.")
@click.option("--verbose", "-v", is_flag=True, help="Log every step.")
@click.option("--quiet", "-q", is_flag=True, help="Log only warnings and errors; print no table.")
@click.pass_context
def batch(
    context: click.Context,
    file: Path,
    resume: bool,
    at_a_time: int,
    threads: int | None,
    dry_run: bool,
    overwrite: bool,
    force: bool,
    log_json: bool,
    verbose: bool,
    quiet: bool,
) -> None:
    """Convert many models with many methods, listed in FILE; configs/batch.yaml is an example.

    Each model is read once for all its methods. If a job fails, the others still run, and the exit code is 1. To
    continue an interrupted batch, run it again with --resume.
    """
    from converter.cli.logs import configure_logs

    above = context.parent.params if context.parent is not None else {}
    quiet, log_json = quiet or above.get("quiet", False), log_json or above.get("log_json", False)
    verbose = verbose or above.get("verbose", False)
    configure_logs(json=log_json, verbose=verbose, quiet=quiet, unattended=True)
    if dry_run:
        print_jobs(read_jobs(file, overwrite=overwrite, force=force)[1])
        return
    failed = carry_out(
        file,
        resume=resume,
        at_a_time=at_a_time,
        threads=threads,
        said={"overwrite": overwrite, "force": force},
        steps=verbose or log_json,
        table=not quiet,
    )
    context.exit(1 if failed else 0)


def carry_out(
    file: Path,
    *,
    resume: bool,
    at_a_time: int,
    threads: int | None,
    said: dict[str, bool],
    steps: bool,
    table: bool,
) -> int:
    """Do what a batch file says, and return how many jobs failed."""
    from converter.batch.worker import start_worker
    from converter.cli.logs import event

    started = time.perf_counter()
    with closing(start_worker()) as ready:  # it starts while the file is read and checked
        directory, jobs = read_jobs(file, **said)
        how = {"resume": resume, "at_a_time": at_a_time, "threads": threads, "ready": ready}
        outcomes = outcomes_of(jobs, directory, file, steps=steps, table=table, **how)
    failed = sum(outcome.result is None for outcome in outcomes)
    early = sum(outcome.kept for outcome in outcomes)
    counts = {"done": len(outcomes) - failed - early, "kept": early, "failed": failed}
    seconds = time.perf_counter() - started
    text = ", ".join(f"{count} {what}" for what, count in counts.items())
    event("summary", f"{text} in {seconds:.1f} s", seconds=seconds, **counts)
    return failed


def read_jobs(file: Path, *, overwrite: bool, force: bool) -> tuple[Path, list[Job]]:
    """The directory of a batch's outputs, and its jobs."""
    from converter.batch.expansion import expand
    from converter.batch.schema import read_batch

    batch = read_batch(file)
    return Path(batch.output_directory), expand(batch, file, overwrite=overwrite, force=force)


def outcomes_of(
    jobs: Sequence[Job], directory: Path, file: Path, *, steps: bool, table: bool, **how: Any
) -> list[Outcome]:
    """Do jobs, log what becomes of each, and print a table of all of them, even when interrupted.

    Args:
        jobs: what to do.
        directory: where outputs go.
        file: the batch's file.
        steps: log what each conversion is doing.
        table: print it.
        how: further arguments of :func:`converter.batch.running.perform`.
    """
    from converter.batch.running import perform
    from converter.cli.logs import ProgressLog, event

    shown: dict[str, ProgressLog] = {}

    def begun(group: Sequence[Job]) -> None:
        for job in group:
            asked = {"model": str(job.request.model), "method": job.method, "output": str(job.request.output)}
            event("started", f"{job.method} of {job.request.model} started", job=job.name, **asked)

    def progress(group: Sequence[Job], step: Progress) -> None:
        if steps:
            shown.setdefault(group[0].name, ProgressLog(model=str(group[0].request.model))).show(step)

    outcomes: dict[str, Outcome] = {}
    work = perform(jobs, directory, file, begun=begun, progress=progress, **how)
    try:
        with closing(work) as running:
            for outcome in running:
                log(outcome)
                outcomes[outcome.job.name] = outcome
    except KeyboardInterrupt:
        if table:
            print_outcomes(jobs, outcomes)
        raise
    if table:
        print_outcomes(jobs, outcomes)
    return list(outcomes.values())


def log(outcome: Outcome) -> None:
    """The events of a job that has ended."""
    from converter.cli.logs import event, log_result

    name = outcome.job.name
    if outcome.result is None:
        event("failed", outcome.reason, job=name, error=outcome.error, exit_code=outcome.exit_code)
    elif outcome.kept:
        event("kept", f"{outcome.result.output} already exists", job=name, output=str(outcome.result.output))
    else:
        log_result(outcome.result, job=name)


def print_jobs(jobs: Sequence[Job]) -> None:
    """What would be done; models that are read once for several jobs share a number."""
    from converter.batch.running import groups_of
    from converter.cli.table import print_columns

    reading = {job.name: str(number) for number, group in enumerate(groups_of(jobs), 1) for job in group}
    print_columns(
        ("reading", "model", "method", "format", "verify", "output"),
        [
            (
                reading[job.name],
                str(job.request.model),
                job.request.method,
                job.request.output_format,
                job.request.verify,
                str(job.request.output),
            )
            for job in jobs
        ],
        right=("reading",),
    )
    for job in jobs:
        if job.missing:
            click.echo(f"convert: warning: {job.name}: {job.missing}", err=True)


def print_outcomes(jobs: Sequence[Job], outcomes: Mapping[str, Outcome]) -> None:
    """The table at the end: of every job its outcome, by its name."""
    from converter.cli.logs import verified_in_short
    from converter.cli.table import print_columns
    from converter.outputs import size

    rows = []
    for job in jobs:
        outcome = outcomes.get(job.name)
        if outcome is None or outcome.result is None:
            rows.append((job.name, "failed", "", "", outcome.reason) if outcome else (job.name, "not done", "", "", ""))
            continue
        result = outcome.result
        how = "kept" if outcome.kept else "resumed" if result.resumed else "done"
        seconds = "" if outcome.kept else f"{sum(result.seconds.values()):.1f}"
        rows.append((job.name, how, size(result.output_bytes), seconds, verified_in_short(result.verification)))
    print_columns(("job", "result", "size", "seconds", "verified, or why not"), rows, right=("size", "seconds"))
