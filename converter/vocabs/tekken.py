"""Tekken (Mistral's ``tekken.json``): tokens ranked by the bytes they stand for, without merges of their own.

The file holds ``config`` (the expression that splits text, how many tokens there are), ``vocab`` (the bytes of each
token, base64, by rank) and ``special_tokens``, which come first in the numbering: the token of rank r has the id
r + number of special tokens. Files before version 11 have no list of special tokens but mean ``EARLY_SPECIAL_TOKENS``.
The layout is mistral-common's (tokens/tokenizers/tekken.py).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from pathlib import Path
from typing import Any

from converter.errors import VocabularyError
from converter.vocabs.byte_pair import read_byte_pair
from converter.vocabs.files import TEKKEN, TokenizerFiles, expect, read_object
from converter.vocabs.ranks import ByRank, RankedTokens, like_tokenizer_json
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


def read_tekken_model(path: Path) -> RankedTokens:
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
    ids = {
        _bytes_of(entry, f"{path}: vocab[{rank}]"): rank + specials
        for rank, entry in enumerate(entries[: size - specials])
    }
    if len(ids) != size - specials or any(bytes([byte]) not in ids for byte in range(256)):
        raise VocabularyError(f"{path}: vocab lacks single bytes or has tokens twice; fetch the file again")
    return RankedTokens(pattern, _special_tokens(data, specials, path), 0, ids, _ROLES["bos_token"])


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
    tokens = read_tekken_model(files.directory / TEKKEN)
    roles = {role: text for role, text in _ROLES.items() if text in tokens.special}
    like_json = replace(files, tokenizer=like_tokenizer_json(tokens), settings={**roles, **files.settings})
    return read_byte_pair(like_json, vocab_size, file=TEKKEN)


class Tekken(ByRank):
    """tekken.json by its definition."""

    def __init__(self, path: Path) -> None:
        super().__init__(read_tekken_model(path), f"{TEKKEN}: config.pattern")
