"""The files a tokenizer is made of, read once and checked before anything relies on their shape."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from converter.errors import VocabularyError
from converter.runtime import IsolatedFailure, run_isolated
from converter.runtime.environment import environment_failure
from converter.sources.source_file import parse_json_object
from converter.vocabs.added_tokens import MARKS, AddedToken, number
from converter.vocabs.model_proto import read_model_type

T = TypeVar("T")

TEKKEN = "tekken.json"
# What the files of sentencepiece models are called, best known first.
_SENTENCEPIECE = ("tokenizer.model", "spiece.model")
# Vocabularies that are nothing without a class of transformers (``slow_files``).
_NEED_A_CLASS = ("vocab.json", "vocab.txt", "sentencepiece.bpe.model")
# A line of tiktoken's: the bytes of a token, and its rank. A sentencepiece model starts with a byte that is no letter.
TIKTOKEN_LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}) ([0-9]{1,9})\r?")

# Special tokens that every tokenizer of transformers may have, in its order.
_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")

_KINDS = {dict: "an object", list: "a list", str: "a string", int: "an integer", bool: "true or false"}


def expect(value: Any, kind: type[T], where: str) -> T:
    """``value`` if it is a ``kind`` (a bool is no int), else a VocabularyError that names ``where`` it was found."""
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise VocabularyError(
        f"{where} is {type(value).__name__} {str(value)[:40]!r}; {_KINDS[kind]} was expected; fetch the file again"
    )


@dataclass(frozen=True)
class TokenizerFiles:
    """What a directory says about its tokenizer. Absent JSON files are empty objects.

    Attributes:
        directory: where the files lie.
        tokenizer: tokenizer.json.
        settings: tokenizer_config.json.
        config: config.json.
        generation: generation_config.json.
        added_tokens_json: added_tokens.json, text to id.
        built_from: name of the file that ``tokenizer`` was built from where there is no tokenizer.json.
        built: text of the tokenizer.json built then.
        numbered: ``added_tokens``, where the model's own tokens, on which their ids depend, are gone.
    """

    directory: Path
    tokenizer: dict[str, Any]
    settings: dict[str, Any]
    config: dict[str, Any]
    generation: dict[str, Any]
    added_tokens_json: dict[str, Any]
    built_from: str = ""
    built: str = ""
    numbered: tuple[AddedToken, ...] | None = None

    @property
    def tokenizer_file(self) -> Path:
        """Where ``tokenizer`` comes from, for messages."""
        return self.directory / (self.built_from or "tokenizer.json")

    @property
    def sentencepiece_model(self) -> Path:
        """The file of the sentencepiece model; it need not exist."""
        paths = [self.directory / name for name in _SENTENCEPIECE]
        return next((path for path in paths if path.is_file()), paths[0])

    @cached_property
    def has_tiktoken_model(self) -> bool:
        """Whether what is called tokenizer.model starts as tiktoken's list of tokens does."""
        try:
            with self.sentencepiece_model.open("rb") as file:
                return TIKTOKEN_LINE.fullmatch(file.readline(4096).removesuffix(b"\n")) is not None
        except OSError:
            return False

    @cached_property
    def added_tokens(self) -> list[AddedToken]:
        """Added tokens by id, as transformers numbers them: those of tokenizer.json, then of the files beside it."""
        if self.numbered is not None:
            return list(self.numbered)
        model = expect(self.tokenizer.get("model") or {}, dict, f"{self.tokenizer_file}: model")
        vocab = model.get("vocab") or {}
        if isinstance(vocab, list):  # Unigram: text and score
            vocab = {entry[0]: place for place, entry in enumerate(vocab) if isinstance(entry, list) and entry}
        return self.numbered_after(expect(vocab, dict, f"{self.tokenizer_file}: model.vocab"))

    def numbered_after(self, vocab: Mapping[str, int], *, renames: bool = False) -> list[AddedToken]:
        """The added tokens by id, numbered as those of a model with these tokens of its own.

        With ``renames``, a token whose id in its file is one of the model's gives its text to that one: sentencepiece
        models have tokens in store for it.
        """
        listed = self.listed_tokens
        names = {token.content: token.id for token in listed if renames and 0 <= token.id < len(vocab)}
        return number(listed, {**names, **vocab}, len(vocab))

    @cached_property
    def listed_tokens(self) -> list[AddedToken]:
        """Added tokens in the order and with the ids of their files; a text may come again, with other marks.

        The order is that of ``TokenizersBackend`` in transformers. Special tokens that no list has come last, with -1.
        """
        path = self.directory / "tokenizer_config.json"
        tokens = []
        for place, entry in enumerate(expect(self.tokenizer.get("added_tokens") or [], list, "added_tokens")):
            where = f"{self.tokenizer_file}: added_tokens[{place}]"
            tokens.append(_added_token(entry, expect(entry, dict, where).get("id"), where))
        if "added_tokens_decoder" in self.settings:
            further = {token.id: token for token in self._configured_tokens(path)}
        else:  # the list of tokenizer.json goes through the same table, and wins
            further = {token.id: token for token in (*self._legacy_tokens(), *tokens)}
        named, extra = self._special_tokens()
        texts = {token.content for token in named}
        tokens += [
            replace(token, special=token.special or token.content in texts) for _, token in sorted(further.items())
        ]
        known = {token.content for token in tokens}
        return [*tokens, *(token for token in (*named, *extra) if token.content not in known)]

    def _configured_tokens(self, path: Path) -> list[AddedToken]:
        """The ``added_tokens_decoder`` of tokenizer_config.json."""
        decoder = expect(self.settings.get("added_tokens_decoder") or {}, dict, f"{path}: added_tokens_decoder")
        tokens = []
        for key, entry in decoder.items():
            where = f"{path}: added_tokens_decoder[{key!r}]"
            token_id = int(key) if str(key).isascii() and str(key).isdecimal() and len(str(key)) < 10 else key
            tokens.append(_added_token(entry, token_id, where))
        return tokens

    def _legacy_tokens(self) -> list[AddedToken]:
        """added_tokens.json, which counts where the settings have no ``added_tokens_decoder``."""
        named, extra = self._special_tokens()
        special = {token.content for token in (*named, *extra)}
        tokens = []
        for text, token_id in self.added_tokens_json.items():
            where = f"{self.directory / 'added_tokens.json'}: {text[:40]!r}"
            if expect(token_id, int, where) < 0:
                raise VocabularyError(f"{where} is {token_id}; a token's id was expected")
            tokens.append(AddedToken(token_id, text, text in special, normalized=text not in special))
        return tokens

    def _special_tokens(self) -> tuple[list[AddedToken], list[AddedToken]]:
        """Special tokens of the settings, in transformers' order and with -1 for ids: those with a name, the others."""
        roles = [f"{role}_token" for role in _ROLES]
        named = [key for key in self.settings if key.endswith("_token") and key not in roles]
        others = self.settings.get("extra_special_tokens") or self.settings.get("additional_special_tokens") or []
        if isinstance(others, dict):
            return _special([*map(self.settings.get, (*roles, *named)), *others.values()]), []
        return _special(map(self.settings.get, (*roles, *named))), _special(others if isinstance(others, list) else [])

    def without_model(self) -> TokenizerFiles:
        """All but tokenizer.json's tokens and merges, which are most of it."""
        model = self.tokenizer.get("model")
        if not isinstance(model, dict):
            return self
        settings = {key: value for key, value in model.items() if key not in ("vocab", "merges")}
        tokenizer = {**self.tokenizer, "model": settings}
        return replace(self, tokenizer=tokenizer, numbered=tuple(self.added_tokens))

    def as_request(self) -> dict[str, Any]:
        """All but tokens and merges, as JSON for another process."""
        return {**asdict(self.without_model()), "directory": str(self.directory)}

    @classmethod
    def from_request(cls, request: dict[str, Any]) -> TokenizerFiles:
        numbered = request["numbered"]
        tokens = None if numbered is None else tuple(AddedToken(**token) for token in numbered)
        return cls(**{**request, "directory": Path(request["directory"]), "numbered": tokens})


def _special(entries: Iterable[Any]) -> list[AddedToken]:
    """Special tokens, each a text or an object with marks; what is neither is none."""
    tokens = []
    for entry in entries:
        described = entry if isinstance(entry, dict) else {"content": entry}
        if isinstance(text := described.get("content"), str) and text:
            marks = {mark: described.get(mark) is True for mark in MARKS if mark != "special"}
            tokens.append(AddedToken(-1, text, special=True, **marks))
    return tokens


def _added_token(entry: Any, token_id: Any, where: str) -> AddedToken:
    entry = expect(entry, dict, where)
    if expect(token_id, int, f"{where}.id") < 0:
        raise VocabularyError(f"{where}.id is {token_id}; a token's id was expected; fetch the file again")
    content = expect(entry.get("content"), str, f"{where}.content")
    marks = {mark: expect(entry.get(mark, False), bool, f"{where}.{mark}") for mark in MARKS}
    return AddedToken(token_id, content, **marks)


def read_tokenizer_files(directory: Path) -> TokenizerFiles:
    """Read what there is.

    Without a tokenizer.json, tekken.json or a tokenizer.model that says all, transformers builds the tokenizer
    (``slow_files``).

    Raises:
        VocabularyError: no tokenizer in the directory, or a file is not what it should be.
    """
    files = TokenizerFiles(
        directory,
        tokenizer=read_object(directory / "tokenizer.json"),
        settings=read_object(directory / "tokenizer_config.json"),
        config=read_object(directory / "config.json"),
        generation=read_object(directory / "generation_config.json"),
        added_tokens_json=read_object(directory / "added_tokens.json"),
    )
    if files.tokenizer or (directory / TEKKEN).is_file():
        return _with_special_tokens_map(files)
    if _needs_a_class(files):
        return _built(files)
    if not files.sentencepiece_model.is_file():
        raise VocabularyError(
            f"{directory}: no tokenizer.json, tekken.json, tokenizer.model, vocab.json or vocab.txt; fetch the "
            "tokenizer's files, or name the directory they are in with --tokenizer"
        )
    return _with_special_tokens_map(files)


def _with_special_tokens_map(files: TokenizerFiles) -> TokenizerFiles:
    """Without an added_tokens_decoder, special_tokens_map.json overrules the settings, as it does in transformers."""
    named = read_object(files.directory / "special_tokens_map.json")
    if "added_tokens_decoder" in files.settings or not named:
        return files
    roles = {key: value for key, value in named.items() if key.endswith("_token")}
    return replace(files, settings={**files.settings, **roles})


def _needs_a_class(files: TokenizerFiles) -> bool:
    """Whether the files mean nothing without a class of transformers.

    A sentencepiece BPE model says all there is to know of its kind, and so does a Unigram model for which no class is
    named, or one of the model's own.
    """
    path = files.sentencepiece_model
    if not path.is_file() or files.has_tiktoken_model:
        return not path.is_file() and any((files.directory / name).is_file() for name in _NEED_A_CLASS)
    named = files.settings.get("tokenizer_class") or files.config.get("model_type")
    return bool(named) and not files.settings.get("auto_map") and read_model_type(path) == "Unigram"


def _built(files: TokenizerFiles) -> TokenizerFiles:
    try:
        answer = run_isolated("converter.vocabs.slow_files:build", directory=str(files.directory))
    except IsolatedFailure as error:
        raise environment_failure(error) or VocabularyError(
            f"{files.directory}: transformers cannot build the tokenizer of its files: {error}"
        ) from error
    if "refused" in answer:
        raise VocabularyError(answer["refused"])
    # The built tokenizer has the added tokens already.
    settings = {key: value for key, value in files.settings.items() if key != "added_tokens_decoder"}
    return replace(
        files,
        tokenizer=json.loads(answer["tokenizer"]),
        settings={**settings, **answer["settings"]},
        built_from=answer["file"],
        built=answer["tokenizer"],
    )


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where there is no file."""
    content = read_content(path)
    if content is None:
        return {}
    if content.startswith(b"version https://git-lfs"):
        raise VocabularyError(f"{path}: is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
    return parse_json_object(content, str(path), error=VocabularyError)


def read_text(path: Path) -> str | None:
    """The text of a file without a byte order mark, or None where there is no file."""
    content = read_content(path)
    try:
        # Lines end as Python reads them, and so transformers.
        return None if content is None else content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise VocabularyError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); fetch it again"
        ) from error


def read_content(path: Path) -> bytes | None:
    """The bytes of a file, or None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise VocabularyError(f"{path}: cannot be read ({error.strerror})") from error
