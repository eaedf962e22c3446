"""Results for a catalogue, made without a conversion: it only reads bytes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from converter import Result
from converter.catalogue import Catalogue, FileDigest, Source, key_of
from converter.pipeline.known import facts_of
from converter.verification import Verification


def write_source(directory: Path) -> Path:
    """A directory that looks like a source."""
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(os.urandom(3_000_000))
    return directory


def made(output: Path, **changes: Any) -> Result:
    """A result with that output, which is written."""
    output.write_bytes(b"GGUF" + output.name.encode() * 100)
    verification = Verification("load", passed=True, verdict="llama.cpp loads the file", mean_kl=0.25)
    facts: dict[str, Any] = {
        "method": "q4_0", "source_bytes": 2000, "output_bytes": output.stat().st_size, "weights": 1000,
        "bits_per_weight": 4.5, "tensor_types": {"norm": "f32"}, "tensor_shapes": {"norm": (10, 100)},
        "seconds": {"read": 0.5, "write": 2.0, "verify": 1.0}, "verification": verification, "warnings": ("careful",),
        "files": (output,),
    }  # fmt: skip
    return Result(**{"output": output, **facts, **changes})


def digest(path: Path) -> FileDigest:
    status = path.stat()
    return FileDigest(path, status.st_size, status.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())


def choices(model: Path, **further: Any) -> dict[str, Any]:
    return {"model": model, "method": "q4_0", **further}


def recorded(model: Path, output: Path, **further: Any) -> None:
    """Make a result and record it."""
    result = made(output)
    with Catalogue(output.parent / "catalogue.sqlite") as catalogue:
        catalogue.record(
            key_of(choices(model, **further), Source.local(model), output), facts_of(result), [digest(output)]
        )


def rewrite(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])
