"""The parts of a GGUF model: one file, or several that belong together.

llama.cpp finds parts by their names, ``<stem>-00001-of-00003.gguf``. Each says its number from 0 (``split.no``), how
many there are (``split.count``) and how many tensors they hold together (``split.tensors.count``); only the first has
the model's key-values. Source: ``llama_split_path`` and the model loader of llama.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from converter.errors import CheckpointError
from converter.gguf.reader import GgufHeader, is_gguf, read_gguf_header
from converter.sources.source_file import SourceFile, quoted, unreadable

NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"
SPLIT_KEYS = (NUMBER, COUNT, TENSORS)
MAX_PARTS = (1 << 16) - 1

_PART_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.ASCII)
_OTHER_WEIGHTS = re.compile(r".*\.safetensors|pytorch_model.*\.bin|.*\.pth?", re.ASCII)

#: What lies beside a model in GGUF: importance matrices, projectors of images.
_BESIDE = re.compile(r"(.*[._-])?(imatrix|mmproj)([._-].*)?\.gguf", re.ASCII)


@dataclass(frozen=True)
class Part:
    """One file of a model.

    Attributes:
        file: closed until it is read.
        header: its own.
    """

    file: SourceFile
    header: GgufHeader


def part_name(stem: str, number: int, count: int) -> str:
    """The name by which llama.cpp finds part ``number``, counted from 1, of ``count``."""
    return f"{stem}-{number:05}-of-{count:05}.gguf"


def parts_of(sizes: Sequence[int], max_size: int | None, max_tensors: int | None) -> list[int]:
    """The number of the part that each tensor goes to, as ``llama-gguf-split`` fills them, in the order of the tensors.

    By size, a tensor that would make the padded tensors of a part exceed the limit begins the next part; by number,
    every so many tensors do. Source: ``tools/gguf-split/gguf-split.cpp`` of llama.cpp.

    Args:
        sizes: of the tensors, padded, in bytes.
        max_size: bytes of a part at most, if it has more than one tensor.
        max_tensors: tensors of a part at most.
    """
    if max_tensors:
        return [number // max_tensors for number in range(len(sizes))]
    parts: list[int] = []
    part = filled = 0
    for size in sizes:
        if max_size and filled and filled + size > max_size:
            part, filled = part + 1, 0
        filled += size
        parts.append(part)
    return parts


def find_gguf(source: Path, elsewhere: Mapping[str, SourceFile] = MappingProxyType({})) -> Path | None:
    """The GGUF file that a path means: itself, or in a directory without other weights the only model's first file.

    Args:
        source: a file or a directory.
        elsewhere: files of the directory that lie somewhere else, by their names in it.

    Returns:
        None where the path means something else.

    Raises:
        CheckpointError: the directory holds several models.
    """
    if source.is_file() or source.name in elsewhere:
        return source if source.suffix == ".gguf" or is_gguf(source) else None
    try:
        names = {path.name for path in source.iterdir()} if source.is_dir() else set()
    except OSError as error:
        raise unreadable(source, error) from error
    names = {name for name in names | elsewhere.keys() if name.isprintable()}
    if any(_OTHER_WEIGHTS.fullmatch(name) for name in names):
        return None
    found = sorted(name for name in names if name.endswith(".gguf"))
    models: dict[str, str] = {}
    for name in [name for name in found if not _BESIDE.fullmatch(name)] or found:
        match = _PART_NAME.fullmatch(name)
        models.setdefault(f"{match[1]} of {match[3]}" if match else name, name)
    if len(models) > 1:
        raise CheckpointError(
            f"{source}: holds {len(models)} GGUF models: {_first(models.values())}; pass the file of the one you mean"
        )
    return source / next(iter(models.values())) if models else None


def open_parts(path: Path, elsewhere: Mapping[str, SourceFile] = MappingProxyType({})) -> tuple[Part, ...]:
    """All parts of the model that a file belongs to, in order.

    Args:
        path: the whole file, or any of its parts.
        elsewhere: files that belong to the directory and lie somewhere else, by their names in it.

    Raises:
        CheckpointError: a part is missing, damaged, misnamed or of another set, or a tensor appears twice.
    """

    def opened(name: str) -> Part:
        file = elsewhere[name] if name in elsewhere else SourceFile(path.with_name(name))
        return Part(file, read_gguf_header(file))

    given = opened(path.name)
    count = _number(given, COUNT, 1, MAX_PARTS)
    if count <= 1:  # 0 is what llama.cpp's own joining leaves behind
        return (given,)
    match = _PART_NAME.fullmatch(path.name)
    if match is None or int(match[3]) != count:
        number = _number(given, NUMBER, 0, MAX_PARTS) + 1
        raise CheckpointError(
            f"{path}: is part {number} of {count}; expected a name that ends in {part_name('', number, count)}, as "
            "the others are found by it; rename it"
        )
    names = [part_name(match[1], number + 1, count) for number in range(count)]
    missing = [name for name in names if name not in elsewhere and not path.with_name(name).exists()]
    if missing:
        raise CheckpointError(
            f"{path}: is one of {count} parts, {len(missing)} of them missing: {_first(missing)}; download them"
        )
    parts = tuple(given if name == path.name else opened(name) for name in names)
    _check_set(parts)
    return parts


def _check_set(parts: tuple[Part, ...]) -> None:
    """Refuse parts that do not belong together."""
    first = parts[0]
    held: dict[str, Path] = {}
    model = {pair.key: pair.value for pair in first.header.metadata}
    total = _number(first, TENSORS, sum(len(part.header.tensors) for part in parts), 1 << 31)
    for number, part in enumerate(parts):
        found = tuple(_number(part, key, -1, 1 << 31) for key in SPLIT_KEYS[:2])
        if found != (number, len(parts)):
            raise CheckpointError(
                f"{part.file.path}: {NUMBER} and {COUNT} are {found[0]} and {found[1]}, {number} and {len(parts)} "
                "expected; download it again"
            )
        if (tensors := _number(part, TENSORS, total, 1 << 31)) != total:
            raise CheckpointError(
                f"{part.file.path}: is a part of another model, of {tensors} tensors; {first.file.path.name} is of "
                f"{total}; download the parts again"
            )
        for pair in part.header.metadata:
            if pair.key not in SPLIT_KEYS and pair.key in model and pair.value != model[pair.key]:
                raise CheckpointError(
                    f"{part.file.path}: is a part of another model: {pair.key} is {quoted(pair.value)}, in "
                    f"{first.file.path.name} {quoted(model[pair.key])}; download the parts again"
                )
        for info in part.header.tensors:
            if info.name in held:
                raise CheckpointError(
                    f"{part.file.path}: tensor {info.name} is also in {held[info.name].name}; expected each tensor "
                    "once; download the parts again"
                )
            held[info.name] = part.file.path
    if len(held) != total:
        raise CheckpointError(
            f"{first.file.path}: {TENSORS} is {total}, its {len(parts)} parts hold {len(held)} tensors; download them "
            "again"
        )


def _number(part: Part, key: str, default: int, largest: int) -> int:
    """A key of the split, checked to be a number."""
    value = part.header.value(key, default)
    if value != default and (type(value) is not int or not 0 <= value <= largest):
        raise CheckpointError(f"{part.file.path}: {key} is {quoted(value)}, expected a number up to {largest}")
    return int(value)


def _first(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (", …" if len(listed) > 3 else "")
