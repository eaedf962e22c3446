"""Tekken (Mistral's ``tekken.json``): tokens ranked by the bytes they stand for, without merges of their own.

The file holds ``config`` (the expression that splits text, how many tokens there are), ``vocab`` (the bytes of each
token, base64, by rank) and ``special_tokens``, which come first in the numbering: the token of rank r has the id
r + number of special tokens. Files before version 11 have no list of special tokens but mean ``EARLY_SPECIAL_TOKENS``.
The layout is mistral-common's (tokens/tokenizers/tekken.py).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from converter.errors import VocabularyError
from converter.vocabs import structure
from converter.vocabs.byte_pair import read_byte_pair
from converter.vocabs.files import TEKKEN, TokenizerFiles, expect, read_object
from converter.vocabs.reference import Ids, Reference
from converter.vocabs.vocabulary import Vocabulary

# fmt: off
EARLY_SPECIAL_TOKENS = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
    "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
)
# fmt: on
_FILLER = "<SPECIAL_{rank}>"
_ROLES = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


@dataclass(frozen=True)
class TekkenModel:
    """Attributes:
    pattern: expression whose matches are tokenized on their own.
    special: special tokens; their ids are their positions.
    ranks: bytes of each other token to its rank.
    """

    pattern: str
    special: tuple[str, ...]
    ranks: dict[bytes, int]


def read_tekken_model(path: Path) -> TekkenModel:
    """Raises VocabularyError where the file is not what it should be."""
    data = read_object(path)
    config = expect(data.get("config"), dict, f"{path}: config")
    pattern = expect(config.get("pattern"), str, f"{path}: config.pattern")
    size, specials = (
        expect(config.get(key), int, f"{path}: config.{key}")
        for key in ("default_vocab_size", "default_num_special_tokens")
    )
    entries = expect(data.get("vocab"), list, f"{path}: vocab")
    if not 0 <= specials <= size <= specials + len(entries):
        raise VocabularyError(
            f"{path}: config.default_vocab_size is {size}, with {specials} special tokens and {len(entries)} others "
            "in the file; fetch the file again"
        )
    ranks = {_bytes_of(entry, f"{path}: vocab[{rank}]"): rank for rank, entry in enumerate(entries[: size - specials])}
    if len(ranks) != size - specials or any(bytes([byte]) not in ranks for byte in range(256)):
        raise VocabularyError(f"{path}: vocab lacks single bytes or has tokens twice; fetch the file again")
    return TekkenModel(pattern, _special_tokens(data, specials, path), ranks)


def _bytes_of(entry: Any, where: str) -> bytes:
    text = expect(expect(entry, dict, where).get("token_bytes"), str, f"{where}.token_bytes")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise VocabularyError(f"{where}.token_bytes is not base64 ({error}); fetch the file again") from error


def _special_tokens(data: dict[str, Any], count: int, path: Path) -> tuple[str, ...]:
    """Special tokens by id; ids without one have a name made of their number."""
    given = data.get("special_tokens")
    entries = dict(enumerate(EARLY_SPECIAL_TOKENS))
    if given is not None:
        entries = {}
        for number, entry in enumerate(expect(given, list, f"{path}: special_tokens")):
            where = f"{path}: special_tokens[{number}]"
            rank = expect(expect(entry, dict, where).get("rank"), int, f"{where}.rank")
            entries[rank] = expect(entry.get("token_str"), str, f"{where}.token_str")
    if not set(entries) <= set(range(count)):
        raise VocabularyError(
            f"{path}: special token {max(entries, key=abs)} is beyond config.default_num_special_tokens, {count}; "
            "fetch the file again"
        )
    return tuple(entries.get(rank, _FILLER.format(rank=rank)) for rank in range(count))


def read_tekken(files: TokenizerFiles, vocab_size: int) -> Vocabulary:
    """The vocabulary of tekken.json, as the byte-level BPE that does the same.

    Raises:
        VocabularyError: the file is not what it should be, or has more tokens than the embedding has rows.
    """
    path = files.directory / TEKKEN
    model = read_tekken_model(path)
    letters = {token: structure.to_byte_letters(token) for token in model.ranks}
    vocab = {letters[token]: rank + len(model.special) for token, rank in model.ranks.items()}
    tokenizer = {
        "added_tokens": [{"id": n, "content": text, "special": True} for n, text in enumerate(model.special)],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(_pre_tokenizers((model.pattern,)))},
        "post_processor": {"single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]}
        | {"type": "TemplateProcessing"},
        "model": {
            "type": "BPE",
            "vocab": vocab | {text: number for number, text in enumerate(model.special)},
            "merges": [f"{letters[left]} {letters[right]}" for left, right in merges(model.ranks)],
            "ignore_merges": True,
        },
    }
    roles = {role: text for role, text in _ROLES.items() if text in model.special}
    like_json = replace(files, tokenizer=tokenizer, settings={**roles, **files.settings})
    return read_byte_pair(like_json, vocab_size, file=TEKKEN)


def merges(ranks: dict[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """Every way to make a token of two others, by rank of the token, then of its parts."""
    for token in sorted(ranks, key=ranks.__getitem__):
        halves = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        found = [(left, right) for left, right in halves if left in ranks and right in ranks]
        yield from sorted(found, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))


def _pre_tokenizers(patterns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for pattern in patterns:
        yield {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    yield {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


class Tekken(Reference):
    """tekken.json by its definition: in each piece of text, the neighbours that make the lowest rank join first."""

    def __init__(self, path: Path) -> None:
        self._model = read_tekken_model(path)
        self._special = {text: number for number, text in enumerate(self._model.special)}
        self._begin = [self._special["<s>"]] if "<s>" in self._special else []
        longest_first = sorted(self._special, key=len, reverse=True)
        self._at_special = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        self.run_instead((self._model.pattern,))

    def encode(self, texts: Sequence[str], *, add_special: bool) -> Ids:
        return [[*(self._begin if add_special else []), *self._encode(text)] for text in texts]

    def steps(self) -> tuple[str, ...]:
        return (structure.canonical_regex(self._model.pattern),)

    def run_instead(self, steps: tuple[str, ...]) -> None:
        from tokenizers import Regex, pre_tokenizers

        try:
            splits = [pre_tokenizers.Split(Regex(step), "isolated") for step in steps]
        except Exception as error:  # the library raises nothing narrower
            raise VocabularyError(f"{TEKKEN}: config.pattern is no regular expression ({error})") from error
        self._split = pre_tokenizers.Sequence(splits)

    def _encode(self, text: str) -> Iterator[int]:
        for part in self._at_special.split(text) if self._special else [text]:
            if part in self._special:
                yield self._special[part]
            elif part:
                for piece, _ in self._split.pre_tokenize_str(part):
                    yield from (len(self._special) + rank for rank in join(piece.encode(), self._model.ranks))


def join(data: bytes, ranks: dict[bytes, int]) -> list[int]:
    """Ranks of the tokens that bytes become: the pair with the lowest rank joins first, the leftmost of equals."""
    if data in ranks:
        return [ranks[data]]
    parts = [data[n : n + 1] for n in range(len(data))]
    while len(parts) > 1:
        pairs = [ranks.get(left + right, len(ranks)) for left, right in pairwise(parts)]
        lowest = min(pairs)
        if lowest == len(ranks):
            break
        place = pairs.index(lowest)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return [ranks[part] for part in parts]
