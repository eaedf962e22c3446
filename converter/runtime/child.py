"""The child's side: a request from standard input, a function called, its reports and answer as lines of JSON."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import signal
import sys
from typing import Any


def main() -> None:
    # Ctrl-C in a terminal reaches both processes; the parent decides and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    task, descriptor = sys.argv[1:]
    module, function = task.split(":")
    with os.fdopen(int(descriptor), "w", encoding="utf-8", buffering=1) as parent:

        def tell(kind: str, value: Any) -> None:
            parent.write(json.dumps({kind: value}) + "\n")

        result = getattr(importlib.import_module(module), function)(**json.load(sys.stdin))
        if inspect.isgenerator(result):
            while True:
                try:
                    tell("report", next(result))
                except StopIteration as ended:
                    result = ended.value
                    break
        tell("answer", result)


if __name__ == "__main__":
    main()
