"""The parts of a GGUF model joined into one file.

Key-values are those of the first part, byte for byte, without the keys of the split; tensors follow part after part,
their bytes untouched. That is the file that was split. (llama.cpp's own joining differs in one thing: it leaves the
keys of the split behind, with a count of 0.)
"""

from __future__ import annotations

import fcntl
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from converter.errors import CheckpointError, OutputError, UsageError
from converter.gguf.parts import SPLIT_KEYS, Part, open_parts
from converter.gguf.reader import PAIRS_START, TensorInfo, read_gguf_header
from converter.gguf.writer import aligned, pack_header
from converter.outputs import check_output, make_parents
from converter.sources.source_file import SourceFile

#: Bytes copied at a time. They stay in the cache between reading and writing, which is faster than copying in the
#: kernel where the file system cannot share blocks.
CHUNK = 1 << 20

#: Called with bytes written so far, all bytes, and the tensor at hand.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Merged:
    """What was joined.

    Attributes:
        output: the file.
        parts: how many there were.
        tensors: how many they held together.
        nbytes: length of the file.
    """

    output: Path
    parts: int
    tensors: int
    nbytes: int


@dataclass(frozen=True)
class Region:
    """A tensor's bytes: in its part from ``begin``, in the output's data section from ``info.offset``."""

    info: TensorInfo
    file: SourceFile
    begin: int
    nbytes: int


def merge(
    parts: Sequence[Path], output: Path, *, overwrite: bool = False, progress: Progress = lambda *_: None
) -> Merged:
    """Join the parts of a split GGUF model.

    Memory is bounded by one chunk. The file has the name ``<output>.part`` until it is complete and checked.

    Args:
        parts: any one part, beside the others; or all of them, wherever they lie.
        output: the file to write.
        overwrite: replace an existing output.
        progress: called with each chunk.

    Raises:
        CheckpointError: a part is missing, damaged or of another set.
        OutputError: the file exists, or cannot be written.
        UsageError: the files are no parts, or not those of one model.
    """
    check_output(output, overwrite=overwrite)
    found = chosen_parts(parts)
    alignment = found[0].header.alignment
    regions = lay_out(found, alignment)
    header = header_bytes(found, regions, alignment)
    total = len(header) + sum(aligned(region.nbytes, alignment) for region in regions)
    check_place(output, found, total)
    make_parents(output)
    unfinished = output.with_name(f"{output.name}.part")
    try:
        # Not emptied before it is locked.
        descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                write(descriptor, header, regions, total, progress)
                check(unfinished, header, regions, total)
                os.fsync(descriptor)
                unfinished.replace(output)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
        finally:
            os.close(descriptor)
    except BlockingIOError:
        raise OutputError(f"{unfinished}: another process is writing this file; wait for it to end") from None
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from error
    finally:
        for part in found:
            part.file.close()
    return Merged(output, len(found), len(regions), total)


def chosen_parts(paths: Sequence[Path]) -> tuple[Part, ...]:
    """All parts of the model: those given, or one given and the others beside it."""
    elsewhere = {path.name: SourceFile(path) for path in paths}
    found = open_parts(paths[0], elsewhere)
    if len(found) == 1:
        raise UsageError(f"{paths[0]}: is a whole file, not one of several parts; there is nothing to merge")
    remaining = {part.file.path.name for part in found}
    for path in paths:
        if path.name not in remaining:
            raise UsageError(
                f"{path}: is not a part of the model of {paths[0].name}, or given twice; give the parts of one model"
            )
        remaining.remove(path.name)
    return found


def lay_out(parts: Sequence[Part], alignment: int) -> list[Region]:
    """Every tensor with its place in its part and in the output.

    Raises:
        CheckpointError: a tensor's type is unknown, or it is not within its part.
    """
    regions, offset = [], 0
    for part in parts:
        for info in part.header.tensors:
            nbytes, begin = size_of(info, part), part.header.data_start + info.offset
            if begin + nbytes > part.file.size:
                raise CheckpointError(
                    f"{part.file.path}: is truncated: tensor {info.name} ends at byte {begin + nbytes} of "
                    f"{part.file.size}; download the file again"
                )
            regions.append(Region(TensorInfo(info.name, info.shape, info.ggml_type, offset), part.file, begin, nbytes))
            offset += aligned(nbytes, alignment)
    return regions


def size_of(info: TensorInfo, part: Part) -> int:
    """Bytes of a tensor of any of ggml's types."""
    try:
        block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(info.ggml_type)]
    except ValueError:
        raise CheckpointError(
            f"{part.file.path}: tensor {info.name} is of type {info.ggml_type}, which is not known"
        ) from None
    if info.shape[-1] % block:
        raise CheckpointError(
            f"{part.file.path}: tensor {info.name}: rows of {info.shape[-1]} elements, a multiple of {block} expected"
        )
    return math.prod(info.shape) // int(block) * int(block_bytes)


def header_bytes(parts: Sequence[Part], regions: Sequence[Region], alignment: int) -> bytes:
    """The output's header, padded to where the data begins."""
    first = parts[0]
    ends = first.header.pair_ends
    pairs = first.file.read_bytes(PAIRS_START, (ends[-1] if ends else PAIRS_START) - PAIRS_START)
    kept = [
        pairs[begin - PAIRS_START : end - PAIRS_START]
        for pair, begin, end in zip(first.header.metadata, (PAIRS_START, *ends), ends, strict=False)
        if pair.key not in SPLIT_KEYS
    ]
    return pack_header(kept, [region.info for region in regions], alignment)


def check_place(output: Path, parts: Sequence[Part], nbytes: int) -> None:
    """Refuse before any work to replace a part, or to fill the disk."""
    if output.exists() and any(output.samefile(part.file.path) for part in parts):
        raise OutputError(f"{output}: is one of the parts; choose another --output")
    free = shutil.disk_usage(next(parent for parent in output.absolute().parents if parent.exists())).free
    if free < nbytes:
        raise OutputError(
            f"{output}: {nbytes / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free on its disk; free some space or "
            "choose another --output"
        )


def write(descriptor: int, header: bytes, regions: Sequence[Region], total: int, progress: Progress) -> None:
    """Write the whole file at its full length; gaps between tensors are zeros."""
    os.ftruncate(descriptor, 0)
    os.ftruncate(descriptor, total)
    put(descriptor, memoryview(header), 0)
    chunk = np.empty(CHUNK, np.uint8)
    for region in regions:
        for done in range(0, region.nbytes, CHUNK):
            taken = chunk[: min(CHUNK, region.nbytes - done)]
            region.file.read_into(region.begin + done, taken)
            position = len(header) + region.info.offset + done
            put(descriptor, taken.data, position)
            progress(position + taken.size, total, region.info.name)


def put(descriptor: int, content: memoryview, position: int) -> None:
    """Write all of it, however often the system writes only a part."""
    while content:
        written = os.pwrite(descriptor, content, position)
        content, position = content[written:], position + written


def check(path: Path, header: bytes, regions: Sequence[Region], total: int) -> None:
    """Read the finished file's header back: every tensor where it was put, and the length."""
    found, nbytes = read_gguf_header(path), path.stat().st_size
    if found.tensors != tuple(region.info for region in regions) or (found.data_start, nbytes) != (len(header), total):
        raise OutputError(f"{path}: does not read back as it was written; check the disk and run the command again")
