"""Saved checkpoints rewritten into the layouts of other releases of transformers, and models made less uniform."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def fused(directory: Path) -> None:
    """Experts as transformers 5 keeps them in memory: one tensor for all of a layer's experts."""
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(directory).save_pretrained(directory, save_original_format=False)


def config_with(**changes: Any) -> Callable[[Path], None]:
    """A rewrite that changes fields of config.json; None removes a field."""

    def rewrite(directory: Path) -> None:
        path = directory / "config.json"
        kept = {name: value for name, value in json.loads(path.read_text()).items() if name not in changes}
        given = {name: value for name, value in changes.items() if value is not None}
        path.write_text(json.dumps(kept | given))

    return rewrite


def spread_choice(model: Any) -> None:
    """Move the bias that only the choice of experts sees, a buffer of zeros in a fresh model."""
    for name, buffer in model.named_buffers():
        if name.endswith(("e_score_correction_bias", "expert_bias")):
            buffer.normal_(0, 0.3)


def with_config(checkpoint: Path, directory: Path, changes: dict[str, Any], *, text: bool = False) -> Path:
    """The same files in another directory, with other fields in config.json, or in its ``text_config``."""
    directory.mkdir()
    for path in checkpoint.iterdir():
        if path.name != "config.json":
            (directory / path.name).symlink_to(path)
    config = json.loads((checkpoint / "config.json").read_text())
    changes = {"text_config": {**config["text_config"], **changes}} if text else changes
    (directory / "config.json").write_text(json.dumps({**config, **changes}))
    return directory
