"""Third stage: the model is open, and the importance of its weights measured where that is asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from converter.model import OpenModel
from converter.pipeline.importance import calibrated
from converter.pipeline.located import Located
from converter.pipeline.shared import Shared


@dataclass(frozen=True)
class Opened(Located):
    """A request whose source can be read.

    Attributes:
        model: the source, adapters merged.
        seconds: spent, by stage.
    """

    model: OpenModel
    seconds: dict[str, float]


def open_source(located: Located, shared: Shared) -> Opened:
    """Open the model, and begin to hash its files for the catalogue.

    Raises:
        CheckpointError: it is damaged, or no model; or an adapter doesn't fit it.
        ConversionError: its importance matrix cannot be measured.
    """
    started = time.perf_counter()
    hashings = shared.hashings(located.books)
    if not hashings:
        hashings.append(shared.stack.enter_context(located.books.hashing(located.key.source.files)))
    model, request = shared.model(), located.request
    if request.calibrate and not request.dry_run:
        request = replace(request, imatrix=[*request.imatrix, calibrated(located, shared.convert, shared.tell)])
    seconds = {"read": time.perf_counter() - started}
    return Opened(**vars(located) | {"request": request}, model=model, seconds=seconds)
