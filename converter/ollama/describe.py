"""What Ollama is to know about a GGUF: from its own key-values, and from the checkpoint it was made of."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import TokenType

from converter.errors import CheckpointError
from converter.gguf.parts import open_parts
from converter.gguf.reader import GgufHeader
from converter.ollama.chat_format import ChatFormat
from converter.ollama.go_template import go_template
from converter.ollama.recognition import recognise
from converter.ollama.syntax import Modelfile, Value
from converter.sources.source_file import SourceFile, quoted, read_json_object
from converter.vocabs.first_token import begins_texts

_LOG = logging.getLogger(__name__)

_LICENSES = ("license", "license.txt", "license.md", "licence", "licence.txt", "copying")
_LICENSE_BYTES = 1_000_000

#: Tokens a context of which Ollama asks by itself; it is told where the model has fewer.
_USUAL_CONTEXT = 4096

_SPECIAL = ("bos", "eos", "unknown", "padding", "separator")
_NAMES = {"unknown": "unk", "padding": "pad", "separator": "sep"}
_MARKS = (TokenType.CONTROL, TokenType.USER_DEFINED)


@dataclass(frozen=True)
class _Sampling:
    """A parameter of Ollama's and the field of generation_config.json it is made of."""

    source: str
    kind: type[int] | type[float]
    fits: Callable[[float], bool]
    expected: str
    sampling: bool = True
    """Whether it means nothing to a model that does not sample."""


_SAMPLING = {
    "temperature": _Sampling("temperature", float, lambda value: value >= 0, "a number of 0 or more"),
    "top_p": _Sampling("top_p", float, lambda value: 0 <= value <= 1, "a number from 0 to 1"),
    "top_k": _Sampling("top_k", int, lambda value: value >= 0, "an integer of 0 or more"),
    "min_p": _Sampling("min_p", float, lambda value: 0 <= value <= 1, "a number from 0 to 1"),
    "repeat_penalty": _Sampling("repetition_penalty", float, lambda value: value > 0, "a number above 0", False),
}


def describe(gguf: Path, directory: Path | None = None) -> Modelfile:
    """Everything that can be said about a finished GGUF.

    Args:
        gguf: the file; of a model in parts, any of them.
        directory: the checkpoint it was made of, for ``generation_config.json`` and ``LICENSE``.

    Returns:
        Its Modelfile; the files are named as they lie beside it. Where the chat template follows no pattern there is
        no TEMPLATE, a comment says so, and a warning is logged.

    Raises:
        CheckpointError: a file cannot be read, or a field is not what it has to be; one line.
    """
    parts = open_parts(gguf)
    header = parts[0].header
    if header.value("general.type", "model") != "model":
        raise CheckpointError(f"{gguf}: holds {quoted(header.value('general.type'))}, a model expected")
    generation = _generation_config(directory)
    chat, comments = _chat(header, gguf)
    parameters: dict[str, Value] = {}
    if stops := _stops(header, chat, generation):
        parameters["stop"] = stops
    parameters.update(_sampling(generation))
    context = header.value(f"{header.value('general.architecture')}.context_length")
    if isinstance(context, int) and 0 < context < _USUAL_CONTEXT:
        parameters["num_ctx"] = context
    return Modelfile(
        files=tuple(f"./{part.file.path.name}" for part in parts),
        template=go_template(chat) if chat is not None else "",
        parameters=parameters,
        licenses=_licenses(header, directory),
        comments=comments,
    )


def _chat(header: GgufHeader, gguf: Path) -> tuple[ChatFormat | None, tuple[str, ...]]:
    source = header.value("tokenizer.chat_template")
    if not isinstance(source, str):
        return None, ("The model has no chat template: Ollama passes a prompt on as it is.",)
    special = {}
    for name in _SPECIAL:
        text = _token(header, header.value(f"tokenizer.ggml.{name}_token_id"))
        if text is not None:
            special[f"{_NAMES.get(name, name)}_token"] = text
    found = recognise(source, special, special.get("bos_token", "") if _adds_bos(header) else "")
    if found.chat is not None:
        return found.chat, found.remarks
    _LOG.warning("%s: no TEMPLATE is written for its chat template: %s", gguf, found.reason)
    return None, (
        f"No TEMPLATE: of the model's chat template, {found.reason}.",
        "Ollama then uses the chat template in the GGUF itself, or in versions before 0.30 the one it knows that is "
        "most alike, if any is.",
    )


def _adds_bos(header: GgufHeader) -> bool:
    """Whether the tokenizer puts the first token before a prompt by itself."""
    given = header.value("tokenizer.ggml.add_bos_token")
    if isinstance(given, bool):
        return given
    return begins_texts(header.value("tokenizer.ggml.model"), header.value("tokenizer.ggml.pre"))


def _token(header: GgufHeader, number: Any) -> str | None:
    """Text of a token; None where there is no such token, or it is no text."""
    tokens = header.value("tokenizer.ggml.tokens")
    if type(number) is not int or not isinstance(tokens, list) or not 0 <= number < len(tokens):
        return None
    return tokens[number] if isinstance(tokens[number], str) else None


def _stops(header: GgufHeader, chat: ChatFormat | None, generation: dict[str, Any]) -> list[str]:
    """What ends an answer, beyond the tokens by which the GGUF says so: what follows it, and further tokens."""
    covered = [_token(header, header.value(f"tokenizer.ggml.{name}_token_id")) for name in ("eos", "eot", "eom")]
    stops = []
    if chat is not None and (following := (chat.assistant_after + chat.user_before).lstrip()):
        tokens, types = header.value("tokenizer.ggml.tokens", []), header.value("tokenizer.ggml.token_type", [])
        marks = [
            token
            for token, kind in zip(tokens, types, strict=False)
            if kind in _MARKS and isinstance(token, str) and token and following.startswith(token)
        ]
        stops.append(max(marks, key=len) if marks else following.splitlines()[0].strip())
    ids = generation.get("eos_token_id")
    for number in ids if isinstance(ids, list) else [ids]:
        stops.append(_token(header, number) or "")
    return [stop for stop in dict.fromkeys(stops) if stop and stop not in covered]


def _generation_config(directory: Path | None) -> dict[str, Any]:
    path = directory / "generation_config.json" if directory is not None else None
    return read_json_object(SourceFile(path)) if path is not None and path.exists() else {}


def _sampling(generation: dict[str, Any]) -> dict[str, Value]:
    """Parameters of sampling that the checkpoint gives; those of a model that does not sample are left to Ollama."""
    parameters: dict[str, Value] = {}
    for name, field in _SAMPLING.items():
        value = generation.get(field.source)
        if value is None or (field.sampling and generation.get("do_sample") is False):
            continue
        kinds = (int, float) if field.kind is float else (int,)
        if type(value) not in kinds or not math.isfinite(value) or not field.fits(value):
            raise CheckpointError(
                f"generation_config.json: {field.source} is {quoted(value)}, expected {field.expected}; correct it"
            )
        parameters[name] = value
    return parameters


def _licenses(header: GgufHeader, directory: Path | None) -> tuple[str, ...]:
    """The license's text, where the checkpoint has it, else what the GGUF calls it."""
    if directory is not None and directory.is_dir():
        files = {path.name.lower(): path for path in sorted(directory.iterdir())}
        path = next((files[name] for name in _LICENSES if name in files), None)
        if path is not None and path.is_file() and path.stat().st_size <= _LICENSE_BYTES:
            text = path.read_text(encoding="utf-8", errors="replace").strip()
            if text:
                return (text,)
    names = [header.value(f"general.license{part}") for part in (".name", "", ".link")]
    said = [name for name in names if isinstance(name, str) and name.strip()]
    return (" ".join(said),) if said else ()
