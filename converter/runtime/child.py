"""The child's side: read a request from standard input, call the function, write its answer as JSON to a file."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path


def main() -> None:
    task, answer = sys.argv[1:]
    module, function = task.split(":")
    result = getattr(importlib.import_module(module), function)(**json.load(sys.stdin))
    Path(answer).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
