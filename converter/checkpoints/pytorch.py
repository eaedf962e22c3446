"""A file of ``torch.save``: where each tensor of its state dict lies.

Two layouts, both read without PyTorch and without reading a weight:

Since 1.6, a zip archive whose entries are stored uncompressed:

    NAME/data.pkl    the pickle; a tensor's storage is a persistent id with the name of an entry
    NAME/data/KEY    one storage, little-endian if NAME/byteorder says so or is not there
    NAME/version, …  not needed

Before 1.6 (https://github.com/pytorch/pytorch/blob/main/torch/serialization.py, ``_legacy_save``), end to end:

    five pickles     a magic number, the version 1001, facts about the machine, the object, the keys of the storages
    each storage     8 bytes count of elements, little-endian; then the elements, storages in the order of their keys
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.checkpoints.file_part import FilePart
from converter.checkpoints.pickled import LEGACY_MAGIC, PICKLE_LIMIT, unpickled
from converter.checkpoints.rebuilt import StoredView
from converter.checkpoints.safetensors import DTYPE_BITS, SafetensorsTensor
from converter.checkpoints.strided import StridedTensor, is_contiguous
from converter.errors import CheckpointError
from converter.sources.contents import LOOKED_AT, described
from converter.sources.source_file import SourceFile, quoted

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Keys under which training tools put the state dict, in a dict of other things."""

_Parts = Callable[[str], FilePart]
"""Gives the bytes of a storage by its key."""

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_MAX_ELEMENTS = 2**60
_MAX_NAME = 1024


def read_tensors(file: SourceFile) -> dict[str, SafetensorsTensor]:
    """The tensors of a state dict, in its order. Only the pickle is read.

    Tensors that share memory are all there, each with the place that it has.

    Raises:
        CheckpointError: the file is not one of ``torch.save``, is damaged, wants more than weights, or holds none.
    """
    begin = file.read_bytes(0, min(file.size, 512))
    if begin.startswith(b"PK\x03\x04"):
        content, part = _archive(file)
    elif begin.startswith(b"\x80"):
        content, part = _legacy(file)
    elif begin[257:262] == b"ustar":
        raise CheckpointError(f"{file.path}: is in PyTorch's tar format of 2016, which is not read; {_SAVE}")
    else:
        what = described(file.read_bytes(0, min(file.size, LOOKED_AT)), file.size)
        raise CheckpointError(f"{file.path}: {what or 'is not a file of torch.save; download it again'}")
    views = _state_dict(content, str(file.path))
    return {name: _tensor(part(view.storage.key), name, view) for name, view in views.items()}


_SAVE = "save its state_dict() with a current PyTorch"


#: What zipfile raises on a damaged or hostile directory; NotImplementedError is its word for a zip version beyond 6.3.
_BAD_ZIP = (zipfile.BadZipFile, ValueError, OSError, struct.error, OverflowError, NotImplementedError)


def _archive(file: SourceFile) -> tuple[Any, _Parts]:
    """Content and storages of a zip archive."""
    try:
        with zipfile.ZipFile(_Stream(file, file.size)) as archive:
            listed = archive.infolist()
    except _BAD_ZIP as error:
        raise _damaged(file, f"its zip directory cannot be read: {error}") from error
    entries = {entry.filename: entry for entry in listed}
    if len(entries) != len(listed):
        raise _damaged(file, "two entries of its zip archive have the same name")
    root = next((name.removesuffix("data.pkl") for name in entries if name.count("/") == 1 and "/data.pkl" in name), "")
    if f"{root}constants.pkl" in entries:
        raise CheckpointError(
            f"{file.path}: is a TorchScript archive, which is a program; save the model's state_dict() instead"
        )
    if f"{root}data.pkl" not in entries:
        raise CheckpointError(f"{file.path}: is a zip archive without data.pkl, no file of torch.save")

    def read(name: str) -> bytes:
        part = _entry(file, entries[name])
        if part.size > PICKLE_LIMIT:
            raise _damaged(file, f"{name} is {part.size} bytes long, expected at most {PICKLE_LIMIT}")
        return part.read_bytes(0, part.size)

    if f"{root}byteorder" in entries and (order := read(f"{root}byteorder")) != b"little":
        raise CheckpointError(f"{file.path}: its byte order is {quoted(order)}, expected little; {_SAVE}")

    @cache
    def part(key: str) -> FilePart:
        if (name := f"{root}data/{key}") not in entries:
            raise _damaged(file, f"its archive has no entry {quoted(name)}")
        return _entry(file, entries[name])

    return unpickled(io.BytesIO(read(f"{root}data.pkl")), str(file.path)), part


def _entry(file: SourceFile, entry: zipfile.ZipInfo) -> FilePart:
    """The bytes of an entry."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise CheckpointError(f"{file.path}: {quoted(entry.filename)} is compressed or encrypted; {_SAVE}")
    outside = _damaged(file, f"{quoted(entry.filename)} lies outside of it")
    if not 0 <= entry.header_offset <= file.size - _LOCAL_HEADER.size - entry.file_size:
        raise outside

    def begin() -> int:
        # The header before an entry has its own length, which need not be that in the directory.
        signature, name, extra = _LOCAL_HEADER.unpack(file.read_bytes(entry.header_offset, _LOCAL_HEADER.size))
        offset: int = entry.header_offset + _LOCAL_HEADER.size + name + extra
        if signature != b"PK\x03\x04" or offset + entry.file_size > file.size:
            raise outside
        return offset

    return FilePart(file, entry.file_size, begin)


def _legacy(file: SourceFile) -> tuple[Any, _Parts]:
    """Content and storages of a file as written before PyTorch 1.6."""
    stream = _Stream(file, min(file.size, PICKLE_LIMIT))
    if (magic := unpickled(stream, str(file.path))) != LEGACY_MAGIC:
        kind = "a pickled number" if isinstance(magic, int) else f"a pickled {type(magic).__name__}"
        raise CheckpointError(f"{file.path}: is {kind}, no file of torch.save; {_SAVE}")
    version, facts, content, keys = (unpickled(stream, str(file.path)) for _ in range(4))
    if version != 1001 or not isinstance(facts, dict) or not isinstance(keys, list):
        raise _damaged(file, "its first pickles are not those of torch.save")
    if facts.get("little_endian") is not True:
        raise CheckpointError(f"{file.path}: was saved by a big-endian machine; {_SAVE}")
    storages = {view.storage.key: view.storage for view in _every(content)}
    parts: dict[str, FilePart] = {}
    position = stream.tell()
    for key in (key.decode("ascii", "replace") if isinstance(key, bytes) else key for key in keys):
        if not isinstance(key, str) or key not in storages or key in parts:
            raise _damaged(file, "its storages are not those that its tensors name")
        size = storages[key].count * _width(storages[key].dtype)
        parts[key] = FilePart(file, size, partial(_counted, file, position, storages[key].count))
        position += 8 + size
    if position != file.size:
        raise _damaged(file, f"is truncated or too long: its storages end at byte {position} of {file.size}")

    def part(key: str) -> FilePart:
        if key not in parts:
            raise _damaged(file, f"it has no storage {quoted(key)}")
        return parts[key]

    return content, part


def _counted(file: SourceFile, position: int, count: int) -> int:
    """Where the elements begin of which there are ``count``, as the bytes at ``position`` say."""
    if (found := int.from_bytes(file.read_bytes(position, 8), "little")) != count:
        raise _damaged(file, f"the storage at byte {position} has {found} elements, {count} expected")
    return position + 8


def _every(content: Any) -> list[StoredView]:
    """All tensors in dicts, lists and tuples, however deep; a container met twice is entered once."""
    found, seen, waiting = [], set(), [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, StoredView):
            found.append(value)
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)
    return found


def _state_dict(content: Any, path: str) -> Mapping[str, StoredView]:
    """The state dict in what was saved, whatever it is wrapped in."""
    holders = [content.get(key) for key in WRAPPERS] if isinstance(content, dict) else []
    for holder in (*holders, content):
        members = holder.items() if isinstance(holder, dict) else ()
        if views := {name: value for name, value in members if isinstance(value, StoredView)}:
            return _named(views, path)
    kind = "tensor" if isinstance(content, StoredView) else type(content).__name__
    raise CheckpointError(f"{path}: holds a {kind} where a dict of tensors by name is expected; {_SAVE}")


def _named(views: dict[Any, StoredView], path: str) -> dict[str, StoredView]:
    """The same, once its names are such as may be told."""
    for name in views:
        if not isinstance(name, str) or not name.isprintable() or len(name) > _MAX_NAME:
            raise CheckpointError(
                f"{path}: tensor {quoted(name)}: expected a name of at most {_MAX_NAME} printable characters"
            )
    return views


def _tensor(part: FilePart, name: str, view: StoredView) -> SafetensorsTensor:
    """A tensor at its place, which lies within its storage."""
    width, start, size = _width(view.dtype), 0, part.size
    if view.storage.view is not None:
        start, size = (number * _width(view.storage.dtype) for number in view.storage.view)
    if start + size > part.size or view.storage.count * _width(view.storage.dtype) > part.size:
        raise _damaged(part, f"the storage of tensor {name} has {part.size} bytes, too few")
    if math.prod(length or 1 for length in view.shape) > _MAX_ELEMENTS:
        raise _damaged(part, f"tensor {name} has shape {quoted(view.shape)}")
    reach = view.offset + sum((length - 1) * stride for length, stride in zip(view.shape, view.strides, strict=True))
    if math.prod(view.shape) and (reach + 1) * width > size:
        raise _damaged(part, f"tensor {name} reaches beyond its storage of {size} bytes")
    offset = start + view.offset * width
    if is_contiguous(view.shape, view.strides):
        return SafetensorsTensor(name, view.dtype, view.shape, part, offset)
    return StridedTensor(name, view.dtype, view.shape, part, offset, view.strides)


def _width(dtype: str | None) -> int:
    """Bytes of an element."""
    return 1 if dtype is None else DTYPE_BITS[dtype] // 8


def _damaged(file: SourceFile, what: str) -> CheckpointError:
    return CheckpointError(f"{file.path}: {what}; download it again")


class _Positioned(io.RawIOBase):
    """A file read by position; it seems to end at ``end``."""

    def __init__(self, file: SourceFile, end: int) -> None:
        super().__init__()
        self._file = file
        self._end = end
        self._position = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end}[whence]
        if start + offset < 0:
            raise ValueError("a position before the file's beginning")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        target = np.frombuffer(memoryview(buffer), np.uint8)[: max(self._end - self._position, 0)]
        self._file.read_into(self._position, target)
        self._position += len(target)
        return len(target)


class _Stream(io.BufferedReader):
    """A stream of the beginning of a file that reads at most ``PICKLE_LIMIT`` bytes at once."""

    def __init__(self, file: SourceFile, end: int) -> None:
        super().__init__(_Positioned(file, end))
        self._end = end

    def read(self, size: int | None = -1, /) -> bytes:
        # The memory for all of them would be taken before the first is read.
        count = self._end - self.tell() if size is None or size < 0 else size
        if count > PICKLE_LIMIT:
            raise ValueError(f"{count} bytes of it")
        return super().read(max(count, 0))
