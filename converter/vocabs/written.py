"""What a finished GGUF file says of its tokenizer, held against the source: the keys that tokenizing does not show."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import TokenType

from converter.errors import CheckpointError, VocabularyError
from converter.gguf.reader import read_gguf_header
from converter.vocabs.vocabulary import FLAG_KEYS, ID_KEYS, KEYS, Vocabulary

_TEMPLATES = "tokenizer.chat_template"
# Other tools leave these out where llama.cpp's default is what they want; what follows from them is compared as tokens.
_OPTIONAL = frozenset({*ID_KEYS.values(), *FLAG_KEYS.values()} - {KEYS.BOS_ID, KEYS.EOS_ID})
_MATCHED_WHOLE = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)


def check_written(path: Path, vocabulary: Vocabulary, *, made_here: bool = True, changed: Collection[str] = ()) -> None:
    """Compare the file's key-values with the vocabulary read from the source.

    Args:
        path: the GGUF file; of several parts, the first.
        vocabulary: what the source's files say.
        made_here: every key has to be there as it is. Of a file made by another tool, only chat templates, special ids
            and what is added around a text are compared; how it spells its tokens is its own affair, and tokenizing
            tells whether it is right.
        changed: keys that the user decided otherwise.

    Raises:
        VocabularyError: a key is missing or differs; it is named, with both values.
    """
    try:
        header = read_gguf_header(path)
    except CheckpointError as error:
        raise VocabularyError(str(error)) from error
    found = {pair.key: pair.value for pair in header.metadata if pair.key.startswith("tokenizer.")}
    for pair in vocabulary.key_values():
        telling = pair.key.startswith(_TEMPLATES) or pair.key in ID_KEYS.values() or pair.key in FLAG_KEYS.values()
        if pair.key in changed or pair.key == KEYS.PRE or not (made_here or telling):
            continue
        if pair.key not in found:
            if made_here or pair.key not in _OPTIONAL:
                raise VocabularyError(
                    f"{path}: has no {pair.key}, which is {_shown(pair.value)} for the source; convert the model again"
                )
        elif not _same(found[pair.key], pair.value):
            both = _differing(found[pair.key], pair.value)
            raise VocabularyError(f"{path}: {pair.key} is {both} for the source; convert the model again")


def check_added(vocabulary: Vocabulary, added: Mapping[int, str]) -> None:
    """Compare the types and texts of added tokens with what the source's tokenizer itself says of them.

    Args:
        vocabulary: what will be written.
        added: id to text, as the tokenizers library has them.

    Raises:
        VocabularyError: a token has another text, or would not be matched whole.
    """
    for token_id, text in added.items():
        if token_id >= len(vocabulary.tokens):
            continue  # no row; it is left out, with a warning
        written, kind = vocabulary.tokens[token_id], vocabulary.types[token_id]
        if written not in (text, text.replace("▁", " ")) or kind not in _MATCHED_WHOLE:
            raise VocabularyError(
                f"token {token_id} is {text!r} for the source, matched whole, and {written!r} of type "
                f"{TokenType(kind).name} in the file; the ids of the source's tokens are not those it gives them"
            )


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, list) and expected and isinstance(expected[0], float):
        return np.array_equal(np.asarray(found, np.float32), np.asarray(expected, np.float32))
    return bool(found == expected)


def _differing(found: Any, expected: Any) -> str:
    """Both values, of long ones where they begin to differ."""
    if isinstance(found, str) and isinstance(expected, str):
        differs = (place for place, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b)
        start = max(0, next(differs, min(len(found), len(expected))) - 10)
        return f"{_shown(found[start:])} in the file and {_shown(expected[start:])}"
    if isinstance(found, list) and isinstance(expected, list):
        if len(found) != len(expected):
            return f"{len(found)} values in the file and {len(expected)}"
        place = next(n for n, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
        return f"{_shown(found[place])} in the file at {place} and {_shown(expected[place])}"
    return f"{_shown(found)} in the file and {_shown(expected)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
