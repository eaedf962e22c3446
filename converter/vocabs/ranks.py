"""Tokens ranked by the bytes they stand for (tiktoken's way): as a BPE with merges, and by their definition.

Such a vocabulary has no merges of its own: in each piece of text, the neighbours that make the token of lowest rank
join first, and a piece that is a token is taken whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from converter.errors import VocabularyError
from converter.vocabs import structure
from converter.vocabs.source_tokenizer import Ids, Reference


@dataclass(frozen=True)
class RankedTokens:
    """Attributes:
    pattern: expression whose matches are tokenized on their own.
    special: special tokens, in the order of their ids.
    first_special: the first one's id.
    ids: bytes of each other token to its id; the lower id has the lower rank.
    begin: the special token that begins a text.
    """

    pattern: str
    special: Sequence[str]
    first_special: int
    ids: Mapping[bytes, int]
    begin: str


def like_tokenizer_json(tokens: RankedTokens) -> dict[str, Any]:
    """The tokenizer.json of the byte-level BPE that does the same (transformers' TikTokenConverter builds the like)."""
    special = list(enumerate(tokens.special, tokens.first_special))
    letters = {token: structure.to_byte_letters(token) for token in tokens.ids}
    vocab = {letters[token]: token_id for token, token_id in tokens.ids.items()}
    split = {"type": "Split", "pattern": {"Regex": tokens.pattern}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    return {
        "added_tokens": [{"id": n, "content": text, "special": True} for n, text in special],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": {"single": [{"SpecialToken": {"id": tokens.begin}}, {"Sequence": {"id": "A"}}]}
        | {"type": "TemplateProcessing"},
        "model": {
            "type": "BPE",
            "vocab": vocab | {text: number for number, text in special},
            "merges": [f"{letters[left]} {letters[right]}" for left, right in merges(tokens.ids)],
            "ignore_merges": True,
        },
    }


def merges(ids: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """Every way to make a token of two others, by rank of the token, then of its parts."""
    for token in sorted(ids, key=ids.__getitem__):
        halves = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        found = [(left, right) for left, right in halves if left in ids and right in ids]
        yield from sorted(found, key=lambda pair: (ids[pair[0]], ids[pair[1]]))


class ByRank(Reference):
    """Ranked tokens by their definition, without merges."""

    def __init__(self, tokens: RankedTokens, where: str) -> None:
        """``where`` the expression was found, for messages."""
        self._tokens, self._where = tokens, where
        self._special = {text: number for number, text in enumerate(tokens.special, tokens.first_special)}
        self._begin = [self._special[tokens.begin]] if tokens.begin in self._special else []
        longest_first = sorted(self._special, key=len, reverse=True)
        self._at_special = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        self.run_instead((tokens.pattern,))

    def encode(self, texts: Sequence[str], *, add_special: bool) -> Ids:
        return [[*(self._begin if add_special else []), *self._encode(text)] for text in texts]

    def steps(self) -> tuple[str, ...]:
        return (structure.canonical_regex(self._tokens.pattern),)

    def run_instead(self, steps: tuple[str, ...]) -> None:
        from tokenizers import Regex, pre_tokenizers

        try:
            splits = [pre_tokenizers.Split(Regex(step), "isolated") for step in steps]
        except Exception as error:  # the library raises nothing narrower
            raise VocabularyError(f"{self._where} is no regular expression ({error})") from error
        self._split = pre_tokenizers.Sequence(splits)

    def _encode(self, text: str) -> Iterator[int]:
        for part in self._at_special.split(text) if self._special else [text]:
            if part in self._special:
                yield self._special[part]
            elif part:
                for piece, _ in self._split.pre_tokenize_str(part):
                    yield from join(piece.encode(), self._tokens.ids)


def join(data: bytes, ids: Mapping[bytes, int]) -> list[int]:
    """Ids of the tokens that bytes become: the pair with the lowest rank joins first, the leftmost of equals."""
    if data in ids:
        return [ids[data]]
    parts = [data[n : n + 1] for n in range(len(data))]
    none = float("inf")
    while len(parts) > 1:
        pairs = [ids.get(left + right, none) for left, right in pairwise(parts)]
        lowest = min(pairs)
        if lowest == none:
            break
        place = pairs.index(lowest)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return [ids[part] for part in parts]
