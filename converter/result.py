"""What a conversion tells while it runs and at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converter.verification import Verification


@dataclass(frozen=True)
class Progress:
    """Where a conversion stands.

    Attributes:
        stage: ``fetch``, ``read``, ``calibrate``, ``write``, ``verify`` or ``deliver``.
        done: bytes of the outputs' tensors written or of files fetched or delivered so far, or tokens of the
            calibration run.
        total: all of them; 0 where the stage has no measure.
        item: the tensor, file or step at hand.
    """

    stage: str
    done: int = 0
    total: int = 0
    item: str = ""


@dataclass(frozen=True)
class Result:
    """What a conversion made.

    Attributes:
        output: the file, the first of several, or the directory; not there after a dry run.
        method: the method's name.
        source_bytes: bytes of the source's tensors.
        output_bytes: bytes of the output's tensors, or of all its files once they are written.
        weights: number of elements of all tensors.
        bits_per_weight: of all tensors together.
        tensor_types: type of each tensor, in the order of the file.
        tensor_shapes: shape of each tensor, row-major.
        tensor_files: the file of each tensor, where the output has several; empty for one.
        seconds: by stage: ``read``, ``write``, ``verify``.
        output_format: ``gguf``, ``safetensors`` or ``pytorch``.
        files: what was written, in the order of reading; the files of a directory are not listed one by one.
        resumed: tiles of an earlier run were kept.
        known: an identical output was there already, by the catalogue; nothing was done.
        warnings: what the user should know, one sentence each.
        verification: the verdict; None after a dry run or with ``verify="none"``.
        url: where it was uploaded to.
    """

    output: Path
    method: str
    source_bytes: int
    output_bytes: int
    weights: int
    bits_per_weight: float
    tensor_types: Mapping[str, str]
    tensor_shapes: Mapping[str, tuple[int, ...]]
    seconds: Mapping[str, float]
    output_format: str = "gguf"
    tensor_files: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    resumed: bool = False
    known: bool = False
    warnings: tuple[str, ...] = ()
    verification: Verification | None = None
    url: str | None = None
