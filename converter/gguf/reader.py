"""The header of a GGUF file, read without trust: every length is checked against the file before it is used.

Layout: ``docs/gguf.md`` of ggml. gguf's own reader takes seconds for a vocabulary of 128,000 tokens; this one takes a
fraction of one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFValueType

from converter.errors import CheckpointError
from converter.gguf.key_values import KeyValue
from converter.sources.contents import LOOKED_AT, described
from converter.sources.source_file import SourceFile

VERSIONS = (2, 3)
MAX_DIMENSIONS = 4

#: Bytes of a header that are read at most, and at a time. The largest vocabularies take some 20 MB.
MAX_HEADER = 1 << 28
WINDOW = 1 << 20

#: Where the first key-value begins: behind the magic, the version and the numbers of tensors and of key-values.
PAIRS_START = 24

_SCALARS = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.INT8: "<b",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.BOOL: "<?",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.INT64: "<q",
    GGUFValueType.FLOAT64: "<d",
}


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's entry.

    Attributes:
        name: e.g. ``blk.0.attn_q.weight``.
        shape: row-major; the last dimension is a row's length.
        ggml_type: number of its type.
        offset: first byte, counted from the start of the data section.
    """

    name: str
    shape: tuple[int, ...]
    ggml_type: int
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """What comes before the data.

    Attributes:
        version: of the format.
        metadata: key-values in order.
        tensors: in order.
        data_start: position of the data section, in bytes.
        alignment: of the data section and of each tensor, in bytes.
        pair_ends: position behind each key-value, in bytes; the first begins at ``PAIRS_START``.
    """

    version: int
    metadata: tuple[KeyValue, ...]
    tensors: tuple[TensorInfo, ...]
    data_start: int
    alignment: int
    pair_ends: tuple[int, ...]

    def value(self, key: str, default: Any = None) -> Any:
        return next((pair.value for pair in self.metadata if pair.key == key), default)


def is_gguf(path: Path) -> bool:
    """Whether a file calls itself one, by its name or its first bytes."""
    if path.suffix == ".gguf":
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False


def read_gguf_header(source: Path | SourceFile) -> GgufHeader:
    """Read the header of a GGUF file, in runs of ``WINDOW`` bytes; the file is left closed.

    Raises:
        CheckpointError: the file cannot be read, is no GGUF, or is damaged; one line.
    """
    file = SourceFile(source) if isinstance(source, Path) else source
    magic = file.read_bytes(0, min(4, file.size))
    if magic != b"GGUF":
        begin = file.read_bytes(0, min(LOOKED_AT, file.size))
        page = described(begin, file.size) if magic.isalnum() or b"<" in magic else None  # an answer in its place
        expected = f"not a GGUF file: it starts with {magic!r}, b'GGUF' expected"
        raise CheckpointError(f"{file.path}: {page or expected}")
    try:
        return _Reader(file).header()
    finally:
        file.close()


class _Reader:
    """A position in a file's bytes, those around it in memory."""

    def __init__(self, file: SourceFile) -> None:
        self.file = file
        self.position = 4
        self.window = b""
        self.window_start = 0

    def header(self) -> GgufHeader:
        version = self.scalar("<I")
        if version not in VERSIONS:
            raise self.damaged(f"version {version}, one of {VERSIONS} expected")
        tensor_count, pair_count = self.count(24), self.count(13)
        metadata, pair_ends = [], []
        for _ in range(pair_count):
            metadata.append(self.pair())
            pair_ends.append(self.position)
        keys = {pair.key for pair in metadata}
        if len(keys) != len(metadata):
            raise self.damaged("a key appears twice")
        tensors = [self.tensor() for _ in range(tensor_count)]
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise self.damaged("a tensor appears twice")
        alignment = next((pair.value for pair in metadata if pair.key == "general.alignment"), 32)
        if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
            raise self.damaged(f"general.alignment is {alignment!r}, a power of two expected")
        start = -(-self.position // alignment) * alignment
        return GgufHeader(version, tuple(metadata), tuple(tensors), start, alignment, tuple(pair_ends))

    def damaged(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.file.path}: damaged or cut short: {what} at byte {self.position}")

    def take(self, length: int) -> int:
        """Advance over ``length`` bytes and return where they begin in the window."""
        begin, end = self.position, self.position + length
        if end > self.file.size:
            raise self.damaged(f"{length} bytes expected, {self.file.size - begin} left")
        if end > MAX_HEADER:
            raise self.damaged(f"a header of more than {MAX_HEADER} bytes")
        if end > self.window_start + len(self.window):
            self.window = self.file.read_bytes(begin, min(max(length, WINDOW), self.file.size - begin))
            self.window_start = begin
        self.position = end
        return begin - self.window_start

    def scalar(self, layout: str) -> Any:
        begin = self.take(struct.calcsize(layout))
        return struct.unpack_from(layout, self.window, begin)[0]

    def count(self, least: int) -> int:
        """A number of items, each at least ``least`` bytes long, that the rest of the file could hold."""
        number: int = self.scalar("<Q")
        if number * least > self.file.size - self.position:
            raise self.damaged(f"{number} items announced, more than the file could hold,")
        return number

    def text(self) -> str | bytes:
        """A string; bytes where it is not UTF-8, as tokens may be."""
        length = self.count(1)
        begin = self.take(length)
        raw = self.window[begin : begin + length]
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw

    def name(self) -> str:
        text = self.text()
        if not isinstance(text, str) or not text.isprintable() or not text:
            raise self.damaged(f"the name {text!r}")
        return text

    def kind(self) -> GGUFValueType:
        number = self.scalar("<I")
        try:
            return GGUFValueType(number)
        except ValueError:
            raise self.damaged(f"value type {number}") from None

    def pair(self) -> KeyValue:
        key, kind = self.name(), self.kind()
        if kind is not GGUFValueType.ARRAY:
            return KeyValue(key, self.value(kind), kind)
        element = self.kind()
        if element is GGUFValueType.ARRAY:
            raise self.damaged(f"{key} is a list of lists")
        if element is GGUFValueType.STRING:
            return KeyValue(key, [self.text() for _ in range(self.count(8))], kind, element)
        layout = _SCALARS[element]
        size = struct.calcsize(layout)
        number = self.count(size)
        begin = self.take(number * size)
        values = list(struct.unpack_from(f"<{number}{layout[1]}", self.window, begin))
        return KeyValue(key, values, kind, element)

    def value(self, kind: GGUFValueType) -> Any:
        return self.text() if kind is GGUFValueType.STRING else self.scalar(_SCALARS[kind])

    def tensor(self) -> TensorInfo:
        name, dimensions = self.name(), self.scalar("<I")
        if not 0 < dimensions <= MAX_DIMENSIONS:
            raise self.damaged(f"{name} has {dimensions} dimensions")
        sizes = [self.scalar("<Q") for _ in range(dimensions)]
        return TensorInfo(name, tuple(reversed(sizes)), self.scalar("<I"), self.scalar("<Q"))
