"""Fourth stage: everything about the output is decided before the first weight is read."""

from __future__ import annotations

import time
from dataclasses import dataclass

from converter.errors import EnvironmentFailure, OutputError, UsageError
from converter.formats.layout import Prepared
from converter.outputs import check_output
from converter.pipeline.opened import Opened
from converter.pipeline.shared import Shared
from converter.result import Result
from converter.verification.memory import check_memory


@dataclass(frozen=True)
class Planned(Opened):
    """A request that only has to be run.

    Attributes:
        prepared: the plan and the files it goes to.
    """

    prepared: Prepared

    @property
    def described(self) -> Result:
        """What will be made."""
        plan, names = self.prepared.plan, self.prepared.layout.names
        return Result(
            output=self.output,
            method=self.method,
            source_bytes=self.model.checkpoint.nbytes,
            output_bytes=plan.data_bytes,
            weights=plan.elements,
            bits_per_weight=plan.bits_per_weight,
            tensor_types={planned.target.name: planned.type for planned in plan.tensors},
            tensor_shapes={planned.target.name: planned.target.shape for planned in plan.tensors},
            tensor_files={planned.target.name: names[planned.file] for planned in plan.tensors if names},
            seconds=self.seconds,
            output_format=self.format.name,
            warnings=(*self.prepared.warnings, *self.notes),
        )


def plan(opened: Opened, shared: Shared) -> Planned | Result:
    """Plan the output.

    Returns:
        The description of what would be made, for a dry run.

    Raises:
        ConversionError: it cannot be made, and why.
        OutputError: one of its files is there already, or is a file of the source.
    """
    started = time.perf_counter()
    if opened.request.verify == "full":
        check_full_verification(opened)
    prepared = opened.format.prepare(opened.model, opened.request)
    layout = prepared.layout
    beside = [] if layout.gathered else [opened.output.with_name(name) for name in layout.names]
    for output in beside:
        check_output(output, overwrite=opened.replaces)
    inputs = [file.path for file in opened.model.checkpoint.files if file.path.exists()]
    for output in (path for path in (opened.output, *beside) if path.exists()):
        if any(output.samefile(path) or output.resolve() in path.resolve().parents for path in inputs):
            raise OutputError(f"{output}: is a file of the source; choose another --output")
    seconds = {"read": opened.seconds["read"] + time.perf_counter() - started}
    planned = Planned(**vars(opened) | {"seconds": seconds}, prepared=prepared)
    return planned.described if opened.request.dry_run else planned


def check_full_verification(opened: Opened) -> None:
    """Refuse before anything is written what cannot be verified in full; a dry run only tells.

    Raises:
        UsageError: the source is a GGUF.
        EnvironmentFailure: the source does not fit into the memory that there is.
    """
    if opened.model.header is not None:
        raise UsageError(
            f"{opened.source.model}: a GGUF source cannot be run by transformers, so --verify full has nothing to "
            "compare with; use --verify load"
        )
    try:
        check_memory(opened.model.path, batch_size=opened.request.batch_size)
    except EnvironmentFailure as failure:
        if not opened.request.dry_run:
            raise
        opened.notes.append(str(failure))
