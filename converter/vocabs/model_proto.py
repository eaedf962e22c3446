"""sentencepiece's ``tokenizer.model``: the few fields of its ModelProto that a vocabulary needs.

The layout is protocol-buffer wire format (https://protobuf.dev/programming-guides/encoding/) of
sentencepiece_model.proto; the sentencepiece library itself shows neither the model's type nor its normalizer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from converter.errors import VocabularyError

MODEL_TYPES = {1: "Unigram", 2: "BPE", 3: "Word", 4: "Char"}
_ID_FIELDS = {40: "unk", 41: "bos", 42: "eos", 43: "pad"}


@dataclass
class ModelProto:
    """Attributes:
    pieces: text, score and type of each; types have the numbers of ``gguf.TokenType``.
    model_type: ``BPE``, ``Unigram``, ``Word`` or ``Char``.
    ids: role (``unk``, ``bos``, ``eos``, ``pad``) to id, of those the model has.
    byte_fallback: characters without a piece are spelled as bytes.
    whitespace_as_suffix: a word's space is the end of it, not the beginning.
    add_dummy_prefix: a space is put before the text.
    remove_extra_whitespaces: runs of spaces become one and those at the ends none.
    charsmap: compiled rules of normalization.
    """

    pieces: list[tuple[str, float, int]] = field(default_factory=list)
    model_type: str = ""
    ids: dict[str, int] = field(default_factory=dict)
    byte_fallback: bool = False
    whitespace_as_suffix: bool = False
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    charsmap: bytes = b""

    @property
    def places(self) -> dict[str, int]:
        """Text of each piece to its id."""
        return {text: place for place, (text, _, _) in enumerate(self.pieces)}


def read_model_proto(path: Path) -> ModelProto:
    """Raises VocabularyError where the file is missing, cut short or something else."""
    model = ModelProto()
    with _model_errors(path):
        for number, value in _fields(_read(path)):
            if number == 1:
                model.pieces.append(_piece(_message(value)))
            elif number == 2:
                _read_trainer_spec(model, _message(value))
            elif number == 3:
                _read_normalizer_spec(model, _message(value))
        if not model.pieces or not model.model_type:
            raise ValueError("no pieces, or nothing said of them")
    # A token the model does not have is written as -1, a large number here.
    model.ids = {role: token_id for role, token_id in model.ids.items() if token_id < len(model.pieces)}
    return model


def read_model_type(path: Path) -> str:
    """The kind of model, its pieces left unread. Raises VocabularyError as :func:`read_model_proto` does."""
    model = ModelProto()
    with _model_errors(path):
        for number, value in _fields(_read(path)):
            if number == 2:
                _read_trainer_spec(model, _message(value))
    return model.model_type


def _read(path: Path) -> memoryview:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise VocabularyError(f"{path}: cannot be read ({error.strerror})") from error
    if data.startswith(b"version https://git-lfs"):
        raise VocabularyError(f"{path}: is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
    return memoryview(data)


@contextmanager
def _model_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (IndexError, KeyError, ValueError, TypeError, struct.error) as error:
        raise VocabularyError(f"{path}: not a sentencepiece model, or cut short; fetch it again") from error


def normalizer_model(charsmap: bytes) -> bytes:
    """A ModelProto with these rules of normalization and nothing else, spaces left as they are."""
    unknown = _bytes_field(1, b"<unk>") + _number_field(3, 2)
    trainer = _number_field(3, 1) + b"".join(_number_field(number, (1 << 64) - 1) for number in (41, 42, 43))
    spaces = b"".join(_number_field(number, 0) for number in (3, 4, 5))
    normalizer = _bytes_field(2, charsmap) + spaces
    return _bytes_field(1, unknown) + _bytes_field(2, trainer) + _bytes_field(3, normalizer)


def _number_field(number: int, value: int) -> bytes:
    return _as_varint(number << 3) + _as_varint(value)


def _bytes_field(number: int, data: bytes) -> bytes:
    return _as_varint(number << 3 | 2) + _as_varint(len(data)) + data


def _as_varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def _read_trainer_spec(model: ModelProto, data: memoryview) -> None:
    ids = {"unk": 0, "bos": 1, "eos": 2}
    model.model_type = MODEL_TYPES[1]
    for number, value in _fields(data):
        if number == 3:
            model.model_type = MODEL_TYPES[_number(value)]
        elif number == 24:
            model.whitespace_as_suffix = bool(_number(value))
        elif number == 35:
            model.byte_fallback = bool(_number(value))
        elif number in _ID_FIELDS:
            ids[_ID_FIELDS[number]] = _number(value)
    model.ids = ids


def _read_normalizer_spec(model: ModelProto, data: memoryview) -> None:
    for number, value in _fields(data):
        if number == 2:
            model.charsmap = bytes(_message(value))
        elif number == 3:
            model.add_dummy_prefix = bool(_number(value))
        elif number == 4:
            model.remove_extra_whitespaces = bool(_number(value))


def _piece(data: memoryview) -> tuple[str, float, int]:
    text, score, kind = "", 0.0, 1
    for number, value in _fields(data):
        if number == 1:
            text = bytes(_message(value)).decode()
        elif number == 2:
            (score,) = struct.unpack("<f", _message(value))
        elif number == 3:
            kind = _number(value)
    if not 1 <= kind <= 6:
        raise ValueError(kind)
    return text, score, kind


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise TypeError("a number where bytes were expected")
    return value


def _number(value: int | memoryview) -> int:
    if isinstance(value, int):
        return value
    raise TypeError("bytes where a number was expected")


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of one message: a number for varints, the bytes for everything else."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire_type == 2:
            size, position = _varint(data, position)
        else:
            size = {1: 8, 5: 4}[wire_type]
        if position + size > len(data):
            raise IndexError("field runs past the end")
        yield number, data[position : position + size]
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")
