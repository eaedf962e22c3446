"""What a file is that isn't what its name says: told by its first bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

LOOKED_AT = 4096
"""Bytes of a file's beginning that are enough to tell."""

_AGAIN = "download it again"
_ACCESS = f"log in (hf auth login), accept the model's terms where it has any, and {_AGAIN}"
_TEXT = 120
_ZEROS = 64
"""Zeros at the beginning that are no accident."""


def described(begin: bytes, size: int) -> str | None:
    """What a file is, and what to do: the rest of a sentence that the file's name begins.

    Args:
        begin: its first ``LOOKED_AT`` bytes, or all of them.
        size: bytes of all of it.

    Returns:
        None where nothing is recognized.
    """
    if not size:
        return f"is empty; {_AGAIN}"
    for is_it, what in KINDS:
        if is_it(begin):
            return what if isinstance(what, str) else what(begin)
    return None


def _starts(*magics: bytes) -> Callable[[bytes], bool]:
    return lambda begin: begin.startswith(magics)


def _text(begin: bytes) -> str:
    """The beginning as text, on one line."""
    return " ".join(begin.decode("utf-8-sig", "replace").split())


def _markup(*tags: str) -> Callable[[bytes], bool]:
    return lambda begin: _text(begin[:512]).lower().startswith(tags)


def _is_safetensors(begin: bytes) -> bool:
    return 2 <= int.from_bytes(begin[:8], "little") < 2**32 and begin[8:9] == b"{"


def _is_message(begin: bytes) -> bool:
    """A short text, such as a server's answer."""
    return len(begin) < LOOKED_AT and re.match(rb"[A-Z][a-z]+( [\w,.:'/-]+)+[\r\n]*", begin) is not None


def _zeros(begin: bytes) -> bool:
    return len(begin) >= _ZEROS and not any(begin)


def _quote(begin: bytes) -> str:
    text = _text(begin)
    return repr(text if len(text) <= _TEXT else f"{text[:_TEXT]}…")


def _json_message(begin: bytes) -> str:
    try:
        content: Any = json.loads(begin.decode("utf-8-sig"))
    except ValueError:
        content = None
    found = content if isinstance(content, dict) else {}
    said = next((found[key] for key in ("error", "message", "detail") if isinstance(found.get(key), str)), None)
    return f"is JSON ({_quote(begin) if said is None else repr(said[:_TEXT])}), not the file itself; {_ACCESS}"


def _xml(begin: bytes) -> str:
    code = re.search(r"<Code>(\w+)</Code>", _text(begin))
    said = f" ({code[1]})" if code else ""
    return f"is an XML answer of a store{said}, not the file itself; check the address and your access, and {_AGAIN}"


def _zip(begin: bytes) -> str:
    if b"data.pkl" in begin:
        return "is a file of torch.save; name it pytorch_model.bin"
    return "is a zip archive; unpack it and pass the directory that it holds"


KINDS: tuple[tuple[Callable[[bytes], bool], str | Callable[[bytes], str]], ...] = (
    (_starts(b"version https://git-lfs"), "is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"),
    (_markup("<!doctype html", "<html", "<head", "<script", "<!-- html"),
     f"is an HTML page, a login or an error, not the file itself; {_ACCESS}"),
    (_markup("<?xml", "<error"), _xml),
    (_starts(b"GGUF"), "is a GGUF file; name it .gguf and pass its path as the model"),
    (_starts(b"lmgg", b"fmgg", b"tjgg", b"ggml", b"ggjt"),
     "is a GGML file from before GGUF; convert the model that it was made of"),
    (_starts(b"PK\x03\x04"), _zip),
    (_starts(b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"7z\xbc\xaf\x27\x1c", b"\x28\xb5\x2f\xfd", b"Rar!"),
     "is a compressed archive; unpack it"),
    (lambda begin: begin[257:262] == b"ustar", "is a tar archive; unpack it and pass the directory that it holds"),
    (_starts(b"\x89HDF\r\n"), "is an HDF5 file of Keras or TensorFlow; save the model for PyTorch, as safetensors"),
    (_starts(b"\x93NUMPY"), "is a NumPy array; save the model's state_dict as safetensors"),
    (_starts(*(b"\x80" + bytes([protocol]) for protocol in range(2, 6))),
     "is a pickle, as torch.save wrote it; name it pytorch_model.bin"),
    (_is_safetensors, "is a safetensors file; name it model.safetensors"),
    (_starts(b"{", b"["), _json_message),
    (_zeros, f"begins with zeros: a download that did not finish; {_AGAIN}"),
    (_is_message, lambda begin: f"is a text ({_quote(begin)}), not the file itself; {_ACCESS}"),
)  # fmt: skip
"""Whether a file begins like this, and what is then said of it; the first that fits counts."""
