"""Second stage: the model's files are here, or readable from elsewhere; what the catalogue knows already is done."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from converter.catalogue import RequestKey, input_files, key_of
from converter.catalogue import Source as Recorded
from converter.errors import UsageError
from converter.pipeline.accepted import Accepted
from converter.pipeline.delivery import deliver
from converter.pipeline.known import known_result
from converter.pipeline.shared import Shared
from converter.request import Request
from converter.result import Result
from converter.sources import Source


@dataclass(frozen=True)
class Located(Accepted):
    """A request whose source was found.

    Attributes:
        source: the model.
        tokenizer: directory of the tokenizer's files; None for the model's own.
        adapters: the adapters.
        key: the request as the catalogue compares it.
    """

    source: Source
    tokenizer: Path | None
    adapters: tuple[Source, ...]
    key: RequestKey


def locate(accepted: Accepted, shared: Shared) -> Located | Result:
    """Find the source, unless it was converted in this way before.

    Returns:
        The result where the catalogue knows that the output is what is asked for.

    Raises:
        CheckpointError: something cannot be found, read or stored.
        UsageError: an address that is none, or a run of a model that is not on this machine.
        OutputError: there is another output already.
    """
    found, request = shared.found(), accepted.request
    source = found.source
    if source.elsewhere and (request.calibrate or request.verify == "full"):
        option = "--calibrate" if request.calibrate else "--verify full"
        raise UsageError(f"{source.model}: {option} runs the model itself, which is not on this machine; download it")
    located = Located(
        **vars(accepted),
        source=source,
        tokenizer=found.tokenizer,
        adapters=found.adapters,
        key=key(accepted, source, found.tokenizer, found.adapters),
    )
    record = None if request.force else accepted.books.answer(located.key)
    if record is None:
        accepted.check_output()
        return located
    return deliver(located, source, known_result(record), shared.tell)


def key(accepted: Accepted, source: Source, tokenizer: Path | None, adapters: tuple[Source, ...]) -> RequestKey:
    """The request as the catalogue compares it."""
    recorded = Recorded(
        source.origin,
        source.name,
        input_files(source.path),
        {name: f"{at.identity.size}-{at.identity.mtime_ns}" for name, at in source.elsewhere.items()},
    )
    choices = {field.name: getattr(accepted.request, field.name) for field in fields(Request)}
    places = {"tokenizer": tokenizer, "adapters": tuple(one.path for one in adapters), "method": accepted.method}
    return key_of(choices | places, recorded, accepted.output)
