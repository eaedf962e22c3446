"""The reader of Go's templates against Go itself, whose renderings ``reference/main.go`` recorded."""

from __future__ import annotations

import json
from pathlib import Path

from ollama_models.text_template import render

RENDERED = json.loads((Path(__file__).parent / "reference" / "rendered.json").read_text(encoding="utf-8"))


def test_go_renders_the_same() -> None:
    assert len(RENDERED) > 60
    for case in RENDERED:
        assert render(case["template"], case["data"]) == case["text"], case["template"]
