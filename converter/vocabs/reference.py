"""The source's own tokenizer, and what it would be without the steps that llama.cpp does not have."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from converter.errors import VocabularyError
from converter.vocabs import structure
from converter.vocabs.files import TokenizerFiles
from converter.vocabs.model_proto import read_model_proto

Ids = list[list[int]]


class Reference(ABC):
    """A tokenizer to compare with."""

    @abstractmethod
    def encode(self, texts: Sequence[str], *, add_special: bool) -> Ids:
        """Token ids of each text; ``add_special`` adds begin and end tokens as the source does."""

    def relaxations(self) -> Iterator[str]:
        """Give up, one after the other and for good, what llama.cpp does not do; say each time what it was.

        Only what the source really has is given up, and only where llama.cpp has no way to express it.
        """
        yield from ()

    def run_instead(self, steps: tuple[str, ...]) -> None:
        """Split text by these steps (``structure.steps``) from now on."""
        raise NotImplementedError


def open_reference(files: TokenizerFiles) -> Reference:
    """The tokenizer of tokenizer.json, or of tokenizer.model where there is no other."""
    return TokenizerJson(files) if files.tokenizer else Sentencepiece(files)


class TokenizerJson(Reference):
    """tokenizer.json, run by the ``tokenizers`` library."""

    def __init__(self, files: TokenizerFiles) -> None:
        from tokenizers import AddedToken, Tokenizer

        self._path = path = files.directory / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            reason = " ".join(str(error).split())
            raise VocabularyError(f"{path}: not a tokenizer the tokenizers library can read ({reason})") from error
        self._source = files.tokenizer
        self._added = files.added_tokens
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        if getattr(self._tokenizer.model, "dropout", None):
            self._tokenizer.model.dropout = None
        known = self._tokenizer.get_added_tokens_decoder()
        for token in self._added:
            if token.id not in known:
                self._tokenizer.add_tokens([AddedToken(token.content, normalized=False, special=token.special)])

    def encode(self, texts: Sequence[str], *, add_special: bool) -> Ids:
        try:
            encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=add_special)
        except Exception as error:  # as above
            reason = " ".join(str(error).split())
            raise VocabularyError(f"{self._path}: the tokenizer does not tokenize ({reason})") from error
        return [encoding.ids for encoding in encodings]

    def relaxations(self) -> Iterator[str]:
        from tokenizers import AddedToken

        normalizers = structure.normalizers(self._source)
        if any(part.get("type") == "NFC" for part in normalizers):
            normalizers = [part for part in normalizers if part.get("type") != "NFC"]
            self._set("normalizer", {"type": "Sequence", "normalizers": normalizers})
            yield "llama.cpp does not compose characters (NFC) as the source does: decomposed text gets other tokens"

        stripping = [token for token in self._added if token.lstrip or token.rstrip]
        for token in stripping:
            plain = AddedToken(token.content, normalized=token.normalized, special=token.special)
            self._tokenizer.add_tokens([plain])
        if stripping:
            yield (
                f"llama.cpp keeps the spaces around {stripping[0].content!r} "
                f"{'and others ' if len(stripping) > 1 else ''}that the source drops"
            )

        parts = structure.pre_tokenizers(self._source)
        if any(part.get("type") == "Metaspace" and part.get("prepend_scheme", "always") != "never" for part in parts):
            # Metaspace adds its space only where none is, and with "first" only to the text as a whole. llama.cpp
            # adds one to the text and after every special token, whatever follows, as sentencepiece does.
            replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
            prepend = {"type": "Prepend", "prepend": "▁"}
            self._set("normalizer", {"type": "Sequence", "normalizers": [*normalizers, prepend, replace]})
            kept = [{**part, "prepend_scheme": "never"} if part.get("type") == "Metaspace" else part for part in parts]
            self._set("pre_tokenizer", {"type": "Sequence", "pretokenizers": kept})
            yield "llama.cpp adds a space also before a text that starts with one and after special tokens"

    def run_instead(self, steps: tuple[str, ...]) -> None:
        split = {"type": "Split", "behavior": "Isolated", "invert": False}
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        parts = [*({**split, "pattern": {"Regex": step}} for step in steps), byte_level]
        self._set("pre_tokenizer", {"type": "Sequence", "pretokenizers": parts})

    def _set(self, name: str, description: dict[str, Any]) -> None:
        """Replace a component. The library builds one from its description only when unpickling."""
        from tokenizers import normalizers, pre_tokenizers

        empty = normalizers.Sequence([]) if name == "normalizer" else pre_tokenizers.Sequence([])
        empty.__setstate__(json.dumps(description).encode())
        setattr(self._tokenizer, name, empty)


class Sentencepiece(Reference):
    """tokenizer.model, run by the ``sentencepiece`` library on the text between special and added tokens."""

    def __init__(self, files: TokenizerFiles) -> None:
        from sentencepiece import SentencePieceProcessor

        path = files.sentencepiece_model
        try:
            self._processor = SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise VocabularyError(f"{path}: not a model the sentencepiece library can read; fetch it again") from error
        # Unknown, control and user-defined pieces are matched whole, as in transformers' conversion of such a model
        # (convert_slow_tokenizer.py, SpmConverter); the library alone would take the text of the first two for text.
        pieces = enumerate(read_model_proto(path).pieces)
        self._whole = {text.replace("▁", " "): token_id for token_id, (text, _, kind) in pieces if kind in (2, 3, 4)}
        self._whole |= {text: token_id for text, token_id in files.added_tokens_json.items() if type(token_id) is int}
        self._whole |= {token.content: token.id for token in files.added_tokens}
        longest_first = sorted(self._whole, key=len, reverse=True)
        self._split = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        settings = files.settings
        self._begin = [self._processor.bos_id()] if settings.get("add_bos_token", True) else []
        self._end = [self._processor.eos_id()] if settings.get("add_eos_token", False) else []

    def encode(self, texts: Sequence[str], *, add_special: bool) -> Ids:
        begin, end = (self._begin, self._end) if add_special else ([], [])
        return [[*begin, *self._encode(text), *end] for text in texts]

    def _encode(self, text: str) -> Iterator[int]:
        for part in self._split.split(text) if self._whole else [text]:
            if part in self._whole:
                yield self._whole[part]
            elif part:
                yield from self._processor.encode(part)
