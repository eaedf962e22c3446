"""What is going on, on standard error: lines that a person can read, or one JSON object a line.

A JSON line has ``time`` (ISO 8601, UTC), ``level`` (``info``, ``warning``, ``error``), ``event`` and ``message``, and
the event's own fields:

=============  ==========================================================================
``started``    ``model``, ``method``, ``output``
``reading``    ``item``: a stage begins; so do those of ``BEGINNINGS``
``progress``   ``stage``, ``done``, ``total``, ``item``; every few seconds
``read``       ``source_bytes``, ``seconds``
``wrote``      ``output``, ``output_bytes``, ``bits_per_weight``, ``resumed``, ``seconds``
``verified``   ``verify`` (the level), ``passed``, ``verdict``, the figures, ``seconds``
``finished``   ``output``, ``method``, ``seconds`` (all together)
``warning``    only the message
``failed``     ``error`` (the kind), ``exit_code``
``log``        ``logger``: a line of another library
=============  ==========================================================================

A batch adds ``job`` to the events of a job, tells ``kept`` (``output``) of one whose result was there already, and ends
with ``summary``: ``done``, ``kept``, ``failed``, ``seconds``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json as json_format
import logging
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from converter import Progress, Result
    from converter.verification import Verification

#: Levels of events; the others are INFO.
LEVELS = {"warning": logging.WARNING, "failed": logging.ERROR}
#: What a line begins with for a person.
PREFIXES = {"warning": "warning: ", "failed": "error: "}
#: Events that a person who does not ask for every step is spared.
DETAILS = ("read", "wrote", "verified")
#: Names of a stage's beginning.
BEGINNINGS = {
    "fetch": "fetching",
    "read": "reading",
    "calibrate": "calibrating",
    "write": "writing",
    "verify": "verifying",
    "deliver": "delivering",
}
#: Seconds between two ``progress`` events.
INTERVAL = 5.0

_EVENTS = logging.getLogger("converter.events")


def configure_logs(*, json: bool = False, verbose: bool = False, quiet: bool = False, unattended: bool = False) -> None:
    """Decide what standard error shows; may be called again.

    Args:
        json: every event and every library's line as a JSON object.
        verbose: for a person: every step.
        quiet: nothing but warnings and errors of our own, and errors of libraries.
        unattended: for a person who reads later: what begins and ends, with the time of day.
    """
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(old)
    handler = _Handler()
    handler.setFormatter(_Json() if json else _Text(times=unattended))
    if not (json or verbose):
        handler.addFilter(lambda record: getattr(record, "event", "") not in DETAILS)
    root.addHandler(handler)
    logging.captureWarnings(json)
    steps = not quiet and (json or verbose or unattended)
    root.setLevel(logging.ERROR if quiet else logging.INFO if verbose and not json else logging.WARNING)
    _EVENTS.setLevel(logging.INFO if steps else logging.WARNING)
    logging.getLogger("gguf").setLevel(logging.WARNING)


def event(name: str, message: str, **fields: Any) -> None:
    """Tell that something happened.

    Args:
        name: one of the module's table.
        message: a sentence for a person.
        fields: JSON-serialisable; paths become strings.
    """
    _EVENTS.log(LEVELS.get(name, logging.INFO), "%s", message, extra={"event": name, "fields": fields})


class ProgressLog:
    """Progress as events: one when a stage begins, then one every few seconds.

    Args:
        fields: go into every event.
    """

    def __init__(self, **fields: Any) -> None:
        self._fields = fields
        self._stage = ""
        self._due = 0.0

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.stage != self._stage or not progress.total:
            name = BEGINNINGS.get(progress.stage, progress.stage)
            about = {} if progress.total else {"item": progress.item}
            event(name, f"{name} {about.get('item', '')}".rstrip(), **self._fields, **about)
        elif now >= self._due:
            fields = {**self._fields, **dataclasses.asdict(progress)}
            event("progress", f"{progress.stage}: {progress.done / progress.total:.0%}", **fields)
        else:
            return
        self._stage, self._due = progress.stage, now + INTERVAL


def log_result(result: Result, **fields: Any) -> None:
    """The events of a finished conversion: ``warning``, ``read``, ``wrote``, ``verified``, ``finished``.

    Args:
        result: what was made.
        fields: go into every event.
    """
    seconds, output = result.seconds, str(result.output)
    for warning in result.warnings:
        event("warning", warning, **fields)
    event("read", "source read", source_bytes=result.source_bytes, seconds=seconds.get("read"), **fields)
    event(
        "wrote", f"{output} written", output=output, output_bytes=result.output_bytes, seconds=seconds.get("write"),
        bits_per_weight=result.bits_per_weight, resumed=result.resumed, **fields,
    )  # fmt: skip
    if result.verification is not None:
        figures = {
            name: value
            for name, value in dataclasses.asdict(result.verification).items()
            if name not in ("level", "thresholds", "seconds") and value is not None
        }
        figures["verify"] = result.verification.level
        event("verified", result.verification.verdict, **figures, seconds=seconds.get("verify"), **fields)
    whole = sum(seconds.values())
    text = f"done in {whole:.1f} s, {verified_in_short(result.verification)}"
    event("finished", text, output=output, method=result.method, seconds=whole, **fields)


def verified_in_short(verification: Verification | None) -> str:
    """How far an output is verified, in a few words."""
    if verification is None:
        return "not verified"
    figures = (("mean KL", verification.mean_kl), ("mean cosine", verification.cosine))
    shown = [f"{name} {value:.2g}" for name, value in figures if value is not None]
    return ", ".join([f"verified ({verification.level})", *shown])


class _Handler(logging.Handler):
    """Writes to the standard error of the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # nobody reads any more; the work goes on
            click.echo(self.format(record), err=True)


class _Json(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        ours = hasattr(record, "event")
        line = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "log"),
            "message": record.getMessage(),
            **(getattr(record, "fields", {}) if ours else {"logger": record.name}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json_format.dumps(line, default=str)


class _Text(logging.Formatter):
    """``convert: …``, or the time of day before it."""

    def __init__(self, *, times: bool) -> None:
        super().__init__()
        self._times = times

    def format(self, record: logging.LogRecord) -> str:
        begin = time.strftime("%H:%M:%S", time.localtime(record.created)) if self._times else "convert:"
        job = getattr(record, "fields", {}).get("job")
        about = f"{job}: " if job else ""
        text = f"{begin} {about}{PREFIXES.get(getattr(record, 'event', ''), '')}{record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text
