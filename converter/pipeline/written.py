"""Fifth stage: the weights are read, quantized and written, once for all outputs that read them alike."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from converter.errors import ConversionError, OutputError
from converter.execution import Job, Unfinished, execute
from converter.outputs import nbytes_of
from converter.pipeline.planned import Planned
from converter.pipeline.shared import Shared
from converter.result import Progress
from converter.sources.remote_file import UnreachableSource

#: Failures after which the same command can go on with what was written.
CONTINUED_LATER = (OutputError, UnreachableSource)


@dataclass(frozen=True)
class Begun(Planned):
    """A request whose unfinished output is open.

    Attributes:
        unfinished: the output under another name.
        job: its tiles.
        resumed: whether tiles of an earlier run are kept.
    """

    unfinished: Unfinished
    job: Job
    resumed: bool

    def abandon(self, error: ConversionError) -> ConversionError:
        """Remove the unfinished output, unless the same command can go on with it; the error again."""
        if not isinstance(error, CONTINUED_LATER):
            self.unfinished.discard()
        return error


@dataclass(frozen=True)
class Written(Begun):
    """A request whose output is complete under its unfinished name.

    Attributes:
        files: the final path of each of its files by the unfinished one.
    """

    files: Mapping[Path, Path]

    @property
    def path(self) -> Path:
        """The unfinished file, the first of several, or the directory."""
        return self.unfinished.path if self.prepared.layout.gathered else self.unfinished.files[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(map(nbytes_of, self.files))


def begin(planned: Planned, shared: Shared) -> Begun:
    """Open the unfinished output and write all but its tensors.

    Raises:
        OutputError: another process writes it, or the disk is too full.
    """
    layout, plan = planned.prepared.layout, planned.prepared.plan
    unfinished = shared.stack.enter_context(Unfinished(planned.output, plan, layout.names, gathered=layout.gathered))
    resumed = unfinished.begin(layout.write_headers, layout.sealed)
    job = Job(unfinished, planned.prepared.importance)
    return Begun(**vars(planned), unfinished=unfinished, job=job, resumed=resumed)


def write(begun: Sequence[Begun], shared: Shared) -> Iterator[Written | ConversionError]:
    """Write the tensors of all outputs; for each, in order, what was written or why it could not be."""
    failures: dict[int, ConversionError] = {}
    seconds: dict[int, float] = {}
    for group in groups(begun):
        started = time.perf_counter()
        try:
            write_group([begun[number] for number in group], shared)
        except ConversionError as error:  # of the source, for all of them
            failures |= dict.fromkeys(group, error)
        seconds |= dict.fromkeys(group, time.perf_counter() - started)
    for number, one in enumerate(begun):
        failure = failures.get(number) or one.job.failure
        if failure is not None:
            yield one.abandon(failure)
            continue
        one.prepared.layout.seal(one.unfinished.files)
        spent = {**one.seconds, "write": seconds[number]}
        yield Written(**vars(one) | {"seconds": spent}, files=final_paths(one))


def groups(begun: Sequence[Begun]) -> list[list[int]]:
    """Numbers of requests whose plans read alike, so that a tile is read once for all of a group."""
    found: list[list[int]] = []
    for number, one in enumerate(begun):
        for group in found:
            if one.prepared.plan.reads_like(begun[group[0]].prepared.plan):
                group.append(number)
                break
        else:
            found.append([number])
    return found


def write_group(group: Sequence[Begun], shared: Shared) -> None:
    """Write the tensors of outputs that read alike; a job that fails holds its own failure.

    Raises:
        CheckpointError: the source cannot be read; for all of them.
    """
    jobs = [one.job for one in group]
    total, done = sum(job.plan.data_bytes for job in jobs), 0

    def wrote(nbytes: int, name: str) -> None:
        nonlocal done
        done += nbytes
        shared.tell(Progress("write", done, total, name))

    execute(jobs, group[0].model.checkpoint.tensors, threads=shared.threads, progress=wrote)


def final_paths(begun: Begun) -> dict[Path, Path]:
    """The final path of each file of an output by its unfinished one."""
    unfinished = begun.unfinished
    if not begun.prepared.layout.gathered:
        return dict(zip(unfinished.files, unfinished.outputs, strict=True))
    found = (path for path in sorted(unfinished.path.rglob("*")) if path.is_file())
    return {path: begun.output / path.relative_to(unfinished.path) for path in found}
