"""Sixth stage: the output was found to be faithful, or nobody asked.

A file that is wrong is kept as ``<output>.rejected``. Where the check could not be carried out, which says nothing
about the file, it is kept as ``<output>.unverified``: the same command goes on with the verification.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

from converter.errors import ConversionError, EnvironmentFailure, VerificationError
from converter.pipeline.known import facts_of
from converter.pipeline.ongoing import attempt
from converter.pipeline.shared import Shared
from converter.pipeline.verifications import VERIFICATIONS
from converter.pipeline.written import Written
from converter.result import Progress
from converter.verification import Verification

#: Bytes of outputs from which on one verification takes all threads.
LARGE = 2 << 30


@dataclass(frozen=True)
class Verified(Written):
    """A request whose output may get its name.

    Attributes:
        verification: what was found; None where nobody asked.
    """

    verification: Verification | None


@dataclass(frozen=True)
class Judged:
    """A verdict, and the seconds that it took."""

    verification: Verification | None
    seconds: float


def verify(written: Sequence[Written], shared: Shared) -> Iterator[Verified | ConversionError]:
    """Verify outputs, and read them for the catalogue meanwhile.

    Returns:
        For each, in order, the next stage, or why it does not get there.
    """
    at_once = at_a_time(written, shared.threads)
    for books in dict.fromkeys(one.books for one in written):
        files = [path for one in written if one.books is books for path in one.files]
        shared.hashings(books).append(shared.stack.enter_context(books.hashing(files, threads=at_once)))
    steps: SimpleQueue[str | None] = SimpleQueue()

    def judge(one: Written) -> Judged:
        started = time.perf_counter()
        try:
            check = VERIFICATIONS[one.format.name] if one.request.verify != "none" else None
            found = None if check is None else check(one, shared, steps.put)
            return Judged(found, time.perf_counter() - started)
        finally:
            steps.put(None)

    judged: dict[int, Future[Judged | ConversionError]] = {}
    with ThreadPoolExecutor(at_once, "verify") as pool:
        # The largest first: the threads then end at about the same time.
        for number in sorted(range(len(written)), key=lambda number: -written[number].nbytes):
            judged[number] = pool.submit(attempt, judge, written[number])
        running = len(written)
        while running:
            if (step := steps.get()) is None:
                running -= 1
            else:
                shared.tell(Progress("verify", item=step))
    for number, one in enumerate(written):
        yield settled(one, judged[number].result(), shared)


def at_a_time(written: Sequence[Written], threads: int) -> int:
    """Outputs to verify at once: where one takes a single thread and little memory, one for each thread."""
    small = all(one.request.verify != "full" and one.nbytes < LARGE for one in written)
    return max(1, min(threads, len(written))) if small else 1


def settled(written: Written, judged: Judged | ConversionError, shared: Shared) -> Verified | ConversionError:
    """The next stage of an output, or the reason why it does not get its name; it is kept in any case."""
    if isinstance(judged, ConversionError):
        return set_aside(written, judged, shared)
    verification = judged.verification
    if verification is not None and not verification.passed:
        rejected = written.unfinished.reject()
        return VerificationError(f"{verification.verdict}; the file is kept as {rejected}")
    seconds = {**written.seconds, "verify": judged.seconds}
    return Verified(**vars(written) | {"seconds": seconds}, verification=verification)


def set_aside(written: Written, reason: ConversionError, shared: Shared) -> ConversionError:
    """Keep an output that could not be verified, known to the catalogue; the failure that says so."""
    kept = written.unfinished.unverified.path
    facts = facts_of(replace(written.described, files=(kept,)), unverified=str(reason))
    now = {path: kept_path(written, path, kept) for path in written.files}
    written.books.record(written.key, facts, shared.hashings(written.books), now)
    written.unfinished.set_aside()
    command = "the same command goes on with the verification, or use convert verify"
    return EnvironmentFailure(f"{reason}; the output is complete and kept as {kept}: {command}")


def kept_path(written: Written, path: Path, kept: Path) -> Path:
    """Where one of an output's files will be once it is kept as ``kept``."""
    unfinished = written.unfinished.path
    return kept if path == unfinished else kept / path.relative_to(unfinished)
