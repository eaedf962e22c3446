"""Tokenizers without a tokenizer.json: vocab.json and merges.txt, vocab.txt, sentencepiece's Unigram models.

These files hold tokens, but neither how text is split and normalized nor what is added to it: for that transformers
has a class for each family of models, chosen by tokenizer_config.json and config.json. So transformers builds the
tokenizer.json, and every rule for one counts. It runs in a process of its own; the conversion does not import it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from converter.errors import VocabularyError
from converter.vocabs.files import expect, read_object, read_text
from converter.vocabs.model_proto import read_model_proto

#: Bytes of a file at most. The largest vocabularies take some 20 MB.
MAX_SIZE = 1 << 28

# What a class of transformers may read beside the vocabulary: no code, and of config.json what chooses the class.
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_CHOOSES_THE_CLASS = ("model_type", "tokenizer_class")

_SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")


def build(directory: str) -> dict[str, Any]:
    """Build the tokenizer as ``AutoTokenizer`` does.

    Args:
        directory: with the files.

    Returns:
        ``tokenizer``: the text of a tokenizer.json; ``settings``: names of special tokens to their texts, those that
        the class decides included; ``file``: the vocabulary's file. Or ``refused``: why there is none.
    """
    try:
        return _build(Path(directory))
    except VocabularyError as error:
        return {"refused": str(error)}


def _build(directory: Path) -> dict[str, Any]:
    present = [name for name in _CHECKS if (directory / name).is_file()]
    texts: dict[str, str | None] = {}
    for name in present:
        texts |= _CHECKS[name](directory)
    name = present[0]
    settings, config = (read_object(directory / file) for file in ("tokenizer_config.json", "config.json"))
    where = directory / name
    if settings.get("auto_map"):
        raise VocabularyError(
            f"{where}: the tokenizer is Python code of the model's own ('auto_map' in tokenizer_config.json), which is "
            "not run; save it as a tokenizer.json"
        )
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        # Text without byte order marks, which transformers cannot read.
        for file in _SETTINGS:
            texts[file] = read_text(directory / file)
        texts["config.json"] = json.dumps({key: config[key] for key in _CHOOSES_THE_CLASS if key in config})
        for file, text in texts.items():
            if text is not None:
                (copy / file).write_text(text, encoding="utf-8")
        for model in set(present) & set(_SENTENCEPIECE):
            (copy / model).symlink_to((directory / model).resolve())
        tokenizer = _auto_tokenizer(copy, where)
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise VocabularyError(
            f"{where}: {type(tokenizer).__name__} is a tokenizer in Python, of which there is no tokenizer.json; "
            "llama.cpp has none like it"
        )
    roles = {f"{role}_token": text for role, text in _roles(tokenizer)}
    return {"tokenizer": tokenizer.backend_tokenizer.to_str(), "settings": roles, "file": name}


def _auto_tokenizer(directory: Path, where: Path) -> Any:
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        from transformers import AutoTokenizer, TokenizersBackend
        from transformers.utils import logging
    except ImportError as error:
        raise VocabularyError(
            f"{where}: without a tokenizer.json, the tokenizer is built by transformers, which cannot be imported "
            f"({error}); install it, or put a tokenizer.json beside it"
        ) from error
    logging.set_verbosity_error()
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever a class of transformers meets in a stranger's files
        raise VocabularyError(f"{where}: {_reason(directory, error)}") from error
    if type(tokenizer) is TokenizersBackend:
        raise VocabularyError(f"{where}: {_no_class(directory)}")
    return tokenizer


def _reason(directory: Path, error: Exception) -> str:
    if "instantiate the backend tokenizer" in str(error):
        return _no_class(directory)
    reason = " ".join(str(error).replace(f"{directory}/", "").split())[:200]
    return f"transformers cannot build the tokenizer of these files ({reason}); fetch them again"


def _no_class(directory: Path) -> str:
    named = read_object(directory / "tokenizer_config.json").get("tokenizer_class")
    model_type = read_object(directory / "config.json").get("model_type")
    return (
        "without a tokenizer.json, a class of transformers has to say what kind of tokenizer this is, and "
        f"tokenizer_class {named!r} with model_type {model_type!r} names none that reads this file; put its name into "
        'tokenizer_config.json, e.g. "tokenizer_class": "GPT2Tokenizer"'
    )


def _roles(tokenizer: Any) -> Iterator[tuple[str, str]]:
    for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"):
        if (text := getattr(tokenizer, f"{role}_token", None)) is not None:
            yield role, str(text)


def _text_of(path: Path) -> str:
    """A vocabulary's text. Raises VocabularyError where it is missing, too large or no UTF-8."""
    _check_size(path)
    text = read_text(path)
    if text is None:
        raise VocabularyError(f"{path}: missing; only the other half of the vocabulary is there, fetch this one too")
    if text.startswith("version https://git-lfs"):
        raise VocabularyError(f"{path}: is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
    return text


def _check_size(path: Path) -> None:
    if path.is_file() and (size := path.stat().st_size) > MAX_SIZE:
        raise VocabularyError(f"{path}: {size} bytes; a tokenizer's file has {MAX_SIZE} at most, so this is another")


def _check_vocab_json(directory: Path) -> dict[str, str | None]:
    """Tokens with ids of their own, and merges of them."""
    path, merges_path = directory / "vocab.json", directory / "merges.txt"
    _text_of(path)
    vocab = read_object(path)
    if not vocab:
        raise VocabularyError(f"{path}: holds no tokens; the download may be incomplete, fetch it again")
    owner: dict[int, str] = {}
    for text, token_id in vocab.items():
        if expect(token_id, int, f"{path}: {text[:40]!r}") < 0 or token_id > 0x7FFFFFFF:
            raise VocabularyError(f"{path}: {text[:40]!r} is {token_id}; a token's id was expected")
        if (other := owner.setdefault(token_id, text)) != text:
            raise VocabularyError(
                f"{path}: {other[:40]!r} and {text[:40]!r} have the same id, {token_id}; fetch the file again"
            )
    if any((directory / name).is_file() for name in _SENTENCEPIECE):
        return {"vocab.json": json.dumps(vocab)}  # only the ids; sentencepiece cuts the text
    merges = _text_of(merges_path)
    for number, line in enumerate(merges.split("\n"), 1):
        if not line or line.startswith("#version"):
            continue
        halves = line.split(" ")
        if len(halves) != 2 or not all(halves):
            raise VocabularyError(
                f"{merges_path}: line {number} is {line[:40]!r}; two pieces of text with a space between were expected"
            )
        if (unknown := next((text for text in (*halves, "".join(halves)) if text not in vocab), None)) is not None:
            raise VocabularyError(
                f"{merges_path}: line {number} needs the token {unknown[:40]!r}, which vocab.json lacks; the two files "
                "belong to different models: fetch both again"
            )
    return {"vocab.json": json.dumps(vocab), "merges.txt": merges}


def _check_vocab_txt(directory: Path) -> dict[str, str | None]:
    """A token on each line, its number being its id."""
    path = directory / "vocab.txt"
    text = _text_of(path)
    lines = text.removesuffix("\n").split("\n")
    if not text.strip():
        raise VocabularyError(f"{path}: holds no tokens; the download may be incomplete, fetch it again")
    first: dict[str, int] = {}
    for number, token in enumerate(lines, 1):
        if (before := first.setdefault(token, number)) != number:
            raise VocabularyError(f"{path}: lines {before} and {number} are both {token[:40]!r}; fetch the file again")
    return {"vocab.txt": text}


def _check_sentencepiece(name: str) -> Callable[[Path], dict[str, str | None]]:
    def check(directory: Path) -> dict[str, str | None]:
        _check_size(directory / name)
        read_model_proto(directory / name)
        return {}

    return check


# By the name of a file, that which decides how text is cut first: what is read of it, checked.
_CHECKS: dict[str, Callable[[Path], dict[str, str | None]]] = {
    **{name: _check_sentencepiece(name) for name in _SENTENCEPIECE},
    "vocab.json": _check_vocab_json,
    "vocab.txt": _check_vocab_txt,
}
