"""The child's side of a batch: requests of one source come in, steps and outcomes go out, through one connection."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle

from converter.errors import ConversionError
from converter.pipeline import Progress, Result, convert_together

#: What most conversions import sooner or later.
NEEDED = (
    "converter.pipeline.conversion",
    "converter.formats.gguf",
    "converter.architectures",
    "converter.vocabs.proof",
)
#: Seconds between two steps that are told of the same stage.
INTERVAL = 0.5
#: Seconds that an interrupted conversion gets to leave its unfinished output in order.
GRACE = 10.0


def main() -> None:
    """Convert what the parent asks for; stop where it asks for that, or is no more."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    connection = Connection(int(sys.argv[1]))
    for module in NEEDED:
        import_module(module)
    try:
        requests, held = connection.recv()
        for _ in range(held):
            recv_handle(connection)  # open until this process ends
    except (EOFError, OSError):
        return  # there is nothing to convert
    sending = threading.Lock()

    def send(*message: object) -> None:
        with sending:
            connection.send(message)

    threading.Thread(target=stop_when_told, args=(connection,), daemon=True).start()

    def finished(number: int, outcome: Result | ConversionError) -> None:
        if isinstance(outcome, ConversionError):
            send("failed", number, type(outcome).__name__, str(outcome), outcome.exit_code)
        else:
            send("made", number, outcome)

    try:
        convert_together(requests, progress=seldom(lambda progress: send("progress", progress)), finished=finished)
    except (KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
        os._exit(128 + signal.SIGINT)
    os._exit(0)  # at once: all is closed, and the parent waits for this


def stop_when_told(connection: Connection) -> None:
    """Once the parent closes its end, or ends, interrupt the conversion, which keeps its unfinished file."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(GRACE)
        os._exit(128 + signal.SIGINT)


def seldom(tell: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Pass on the first step of each stage, those without a measure, and of the others one now and then."""
    last = ("", 0.0)

    def pass_on(progress: Progress) -> None:
        nonlocal last
        stage, when = last
        now = time.monotonic()
        if not progress.total or progress.stage != stage or now - when > INTERVAL:
            last = (progress.stage, now)
            tell(progress)

    return pass_on


if __name__ == "__main__":
    main()
