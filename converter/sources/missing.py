"""What a path that is not there may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

#: Models that are known by one word, and where the Hub has them.
FAMOUS: Mapping[str, str] = {
    **{name: f"openai-community/{name}" for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")},
    "distilgpt2": "distilbert/distilgpt2",
    **{
        f"bert-{size}-{case}": f"google-bert/bert-{size}-{case}"
        for size in ("base", "large")
        for case in ("cased", "uncased")
    },
    **{f"roberta-{size}": f"FacebookAI/roberta-{size}" for size in ("base", "large")},
    **{f"xlm-roberta-{size}": f"FacebookAI/xlm-roberta-{size}" for size in ("base", "large")},
    **{f"distilbert-base-{case}": f"distilbert/distilbert-base-{case}" for case in ("cased", "uncased")},
    **{f"t5-{size}": f"google-t5/t5-{size}" for size in ("small", "base", "large", "3b", "11b")},
    "camembert-base": "almanach/camembert-base",
}
#: What the Hub calls a model.
EXAMPLE = "openai-community/gpt2"


def explain(model: str) -> str:
    """Why a path cannot be a model: it is not there; what may have been meant, and what to do.

    Args:
        model: the path as it was given.
    """
    near = nearby(model)
    if model.lower().endswith(".gguf"):
        return "cannot be read: No such file or directory" + (f"; did you mean {near}?" if near else "")
    if known := FAMOUS.get(model.lower()):
        return f"no such directory; on the Hub that model is {known}"
    if near:
        return f"no such directory; did you mean {near}?"
    if "/" not in model:
        return f"no such directory; a model of the Hub is given as ORG/NAME, such as {EXAMPLE}"
    return "no such directory; expected one with config.json, weights and the tokenizer's files, or a GGUF file"


def nearby(model: str) -> str:
    """A directory or GGUF file of nearly the same name in the same place; empty without one."""
    path = Path(model)
    try:
        names = {entry.name: entry for entry in path.parent.iterdir() if is_model(entry)}
    except (OSError, ValueError):
        return ""
    (near,) = difflib.get_close_matches(path.name, list(names), n=1, cutoff=0.6) or [""]
    if not near:
        return ""
    return str(names[near]) if "/" in str(names[near]) else f"./{near}"


def is_model(path: Path) -> bool:
    """Whether a path may be given as a model, by its looks."""
    return path.suffix.lower() == ".gguf" or (path / "config.json").is_file()
