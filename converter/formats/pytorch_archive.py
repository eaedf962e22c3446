"""Files of ``torch.save`` with room for tensors whose bytes are written later.

torch itself writes each file, in a process of its own, from tensors that hold no data: the pickle, the zip's directory
and a hole for each storage. It also says where the holes are. What it cannot know are the checksums of their contents,
which :func:`seal` enters at the end.

Layout of a zip file: .ZIP File Format Specification, sections 4.3.7 (local header), 4.3.9 (data descriptor) and 4.3.12
(central directory).
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.formats.torchao import GROUP, IntxEncoding
from converter.runtime import run_isolated

if TYPE_CHECKING:
    from converter.plan import PlannedTensor, Positions

#: torch's names of safetensors' types.
TORCH_DTYPES = {
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I8": "int8",
    "U8": "uint8",
}

_CHUNK = 1 << 20
_CRC_BYTES = 4


def reserve(paths: Sequence[Path], tensors: Sequence[PlannedTensor], dtype: str) -> Positions:
    """Write the files with holes for the tensors' bytes, at their full length.

    Args:
        paths: the files, created or replaced.
        tensors: of all files; ``file`` is an index of ``paths``. What an :class:`IntxEncoding` makes becomes a tensor
            of torchao's, everything else a plain one.
        dtype: torch's name of the type of the numbers that tensors of torchao's stand for.

    Returns:
        For each tensor the positions of its stored tensors in their file.
    """
    archives: list[dict[str, Any]] = [{"path": str(path), "tensors": []} for path in paths]
    for planned in tensors:
        archives[planned.file]["tensors"].append(
            {
                "name": planned.target.name,
                "parts": [(TORCH_DTYPES[stored.dtype], stored.shape) for stored in planned.stored],
                "intx": _intx(planned, dtype),
            }
        )
    answer = run_isolated("converter.formats.pytorch_save:save_without_data", archives=archives)
    positions = [iter(places) for places in answer]
    return [tuple(next(positions[planned.file])) for planned in tensors]


def _intx(planned: PlannedTensor, dtype: str) -> dict[str, Any] | None:
    """What torchao's tensor is made with beside its parts."""
    if not isinstance(planned.encoding, IntxEncoding):
        return None
    block = (*(1 for _ in planned.target.shape[1:]), GROUP)
    return {"target_dtype": planned.encoding.weight_dtype, "block_size": block, "dtype": dtype}


def seal(path: Path) -> None:
    """Enter the tensors' checksums into a file of :func:`reserve`, once all of them are written."""
    with path.open("r+b") as file:
        for content, places in _entries(path):
            checksum = struct.pack("<I", _crc32(file.fileno(), content.start, len(content)))
            for place in places:
                os.pwrite(file.fileno(), checksum, place)


def sealed(path: Path) -> list[tuple[int, int]]:
    """The runs of bytes that :func:`seal` fills in."""
    return [(place, place + _CRC_BYTES) for _, places in _entries(path) for place in places]


def _entries(path: Path) -> Iterator[tuple[range, tuple[int, int]]]:
    """Where each entry's content lies, and its checksum: in the data descriptor and in the directory."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        entry = archive.start_dir
        for record in archive.infolist():
            name, extra = struct.unpack("<26x2H", os.pread(file.fileno(), 30, record.header_offset))
            start = record.header_offset + 30 + name + extra
            content = range(start, start + record.file_size)
            yield content, (content.stop + 4, entry + 16)
            name, extra, comment = struct.unpack("<28x3H12x", os.pread(file.fileno(), 46, entry))
            entry += 46 + name + extra + comment


def _crc32(descriptor: int, start: int, count: int) -> int:
    checksum = 0
    for position in range(start, start + count, _CHUNK):
        checksum = zlib.crc32(os.pread(descriptor, min(_CHUNK, start + count - position), position), checksum)
    return checksum
