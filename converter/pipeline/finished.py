"""Last stage: the output has its name, is known to the catalogue and was delivered."""

from __future__ import annotations

from dataclasses import replace

from converter.pipeline.delivery import deliver
from converter.pipeline.known import facts_of
from converter.pipeline.shared import Shared
from converter.pipeline.verified import Verified
from converter.result import Result


def finish(verified: Verified, shared: Shared) -> Result:
    """Record an output and give it its final name.

    Raises:
        OutputError: it cannot be renamed, or not be delivered; what was made is kept.
    """
    outputs, verification = verified.unfinished.outputs, verified.verification
    described, told = verified.described, () if verification is None else verification.warnings
    result = replace(
        described,
        output=outputs[0],
        output_bytes=verified.nbytes,
        files=tuple(outputs),
        resumed=verified.resumed,
        verification=verification,
        warnings=(*described.warnings, *told),
    )
    verified.books.record(verified.key, facts_of(result), shared.hashings(verified.books), verified.files)
    verified.unfinished.finish()
    result = replace(result, warnings=(*verified.described.warnings, *told))  # the catalogue may have been in trouble
    return deliver(verified, verified.source, result, shared.tell)
