"""Conversions from end to end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from converter.errors import ConversionError
from converter.pipeline.accepted import accept
from converter.pipeline.finished import finish
from converter.pipeline.located import locate
from converter.pipeline.ongoing import Ongoing, Outcome
from converter.pipeline.opened import open_source
from converter.pipeline.planned import plan
from converter.pipeline.shared import Shared
from converter.pipeline.verified import verify
from converter.pipeline.written import begin, write
from converter.recipes.overrides import Overrides
from converter.request import Request
from converter.result import Progress, Result


def convert(
    model: str | Path,
    method: str,
    output: str | Path | None = None,
    *,
    output_format: str = "gguf",
    adapters: Sequence[str | Path] = (),
    leave_out: Sequence[str] = (),
    pre: str | None = None,
    imatrix: Sequence[str | Path] = (),
    calibrate: Sequence[str | Path] = (),
    overrides: Overrides | None = None,
    allow_requantize: bool = False,
    split_max_size: int | None = None,
    split_max_tensors: int | None = None,
    modelfile: bool = False,
    push_to_hub: str | None = None,
    verify: str = "load",
    batch_size: int = 1,
    stream: bool = False,
    overwrite: bool = False,
    force: bool = False,
    tokenizer: str | Path | None = None,
    torch_dtype: str = "auto",
    trust_remote_code: bool = False,
    catalogue: str | Path | None = None,
    threads: int | None = None,
    dry_run: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Convert a checkpoint to a verified output.

    Args:
        model: directory of a checkpoint, a GGUF file, a Hub id (``org/name[@revision]``), or a URL.
        method: a name that the format knows; for GGUF those of ``converter.recipes.METHODS``.
        output: the file or directory to write; by default a name made of both here.
        output_format: as the other choices, an attribute of :class:`converter.request.Request`, which describes them.
        progress: called with each step, in the calling thread.

    Returns:
        What was made.

    Raises:
        EnvironmentFailure: a check could not be carried out; the output is kept as ``<output>.unverified``.
        VerificationError: the output is not faithful; it is kept as ``<output>.rejected``.
        ConversionError: one line that says what else is wrong and what to do.
    """
    choices = {name: value for name, value in locals().items() if name not in ("progress", "overrides")}
    (outcome,) = convert_together([Request(**choices, overrides=overrides or Overrides())], progress=progress)
    if isinstance(outcome, ConversionError):
        raise outcome
    return outcome


def convert_together(
    requests: Sequence[Request],
    *,
    progress: Callable[[Progress], None] | None = None,
    finished: Callable[[int, Outcome], None] | None = None,
) -> list[Outcome]:
    """Convert one model in several ways, each of its weights read once for all of them.

    Args:
        requests: at least one; ``model``, ``tokenizer``, ``adapters``, ``leave_out`` and ``stream`` are
            the same in all.
        progress: called with each step, in the calling thread.
        finished: called with a request's number and outcome as soon as it is known, in the calling thread.

    Returns:
        For each request what was made, or why it could not be: one that fails doesn't keep the others from being done.
    """
    outcomes: dict[int, Outcome] = {}

    def settle(number: int, outcome: Outcome) -> None:
        outcomes[number] = outcome
        if finished is not None:
            finished(number, outcome)

    with Shared(requests, progress or (lambda _: None), convert) as shared:
        asked = Ongoing(dict(enumerate(requests)), settle)
        accepted = asked.each(partial(accept, shared=shared))
        located = accepted.each(partial(locate, shared=shared))
        opened = located.each(partial(open_source, shared=shared))
        planned = opened.each(partial(plan, shared=shared))
        begun = planned.each(partial(begin, shared=shared))
        written = begun.together(partial(write, shared=shared))
        verified = written.together(partial(verify, shared=shared))
        verified.each(partial(finish, shared=shared))
    return [outcomes[number] for number in range(len(requests))]
