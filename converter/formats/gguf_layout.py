"""Where a GGUF's tensors lie: in one file, or in several as ``llama-gguf-split`` cuts one.

The first part has the model's key-values, all have those of the split. Source: ``tools/gguf-split/gguf-split.cpp`` of
llama.cpp.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gguf import GGUFValueType

from converter.errors import UsageError
from converter.formats.layout import Layout
from converter.gguf.key_values import KeyValue
from converter.gguf.parts import COUNT, MAX_PARTS, NUMBER, TENSORS, part_name, parts_of
from converter.gguf.reader import TensorInfo
from converter.gguf.writer import aligned, write_header
from converter.plan import Plan, PlannedTensor, Positions
from converter.quants import QUANT_TYPES


@dataclass(frozen=True)
class GgufLayout(Layout):
    """One file or several, each a header and then its tensors, each aligned.

    Attributes:
        arch: ``general.architecture``.
    """

    arch: str = ""

    def write_headers(self, paths: Sequence[Path]) -> Positions:
        positions: Positions = []
        for number, path in enumerate(paths):
            tensors = [planned for planned in self.plan.tensors if planned.file == number]
            first = number == 0
            metadata = [*(self.plan.metadata if first else ()), *self._split_keys(number)]
            position = write_header(path, self.arch if first else None, metadata, tensor_infos(tensors))
            for planned in tensors:
                positions.append((position,))
                position = aligned(position + planned.nbytes)
            os.truncate(path, position)
        return positions

    def _split_keys(self, number: int) -> list[KeyValue]:
        """What a part says of the split, in llama-gguf-split's order."""
        if not self.names:
            return []
        return [
            KeyValue(NUMBER, number, GGUFValueType.UINT16),
            KeyValue(TENSORS, len(self.plan.tensors), GGUFValueType.INT32),
            KeyValue(COUNT, len(self.names), GGUFValueType.UINT16),
        ]


def tensor_infos(tensors: Iterable[PlannedTensor]) -> list[TensorInfo]:
    """Entries of one file's tensors, which follow one another, each aligned."""
    infos, offset = [], 0
    for planned in tensors:
        target = planned.target
        infos.append(TensorInfo(target.name, target.shape, QUANT_TYPES[planned.type].ggml_type, offset))
        offset = aligned(offset + planned.nbytes)
    return infos


def lay_out_files(plan: Plan, arch: str, stem: str, max_size: int | None, max_tensors: int | None) -> GgufLayout:
    """Cut a plan of one file into several where it exceeds a limit; what fits in one stays one file.

    Args:
        plan: of one file.
        arch: ``general.architecture``.
        stem: what the parts are called before their numbers.
        max_size: bytes of a part's tensors at most; a tensor that is larger has a part of its own.
        max_tensors: tensors of a part at most.

    Raises:
        UsageError: both limits are given, or there would be more parts than the format can number.
    """
    if max_size and max_tensors:
        raise UsageError("split_max_size and split_max_tensors exclude each other; choose one of them")
    files = parts_of([aligned(planned.nbytes) for planned in plan.tensors], max_size, max_tensors)
    count = max(files, default=0) + 1
    if count == 1:
        return GgufLayout(plan, arch=arch)
    if count > MAX_PARTS:
        raise UsageError(f"the limit of a part makes {count} parts of this model, at most {MAX_PARTS} expected")
    tensors = tuple(replace(planned, file=file) for planned, file in zip(plan.tensors, files, strict=True))
    names = tuple(part_name(stem, number + 1, count) for number in range(count))
    return GgufLayout(replace(plan, tensors=tensors), names, arch=arch)
