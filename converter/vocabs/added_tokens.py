"""Added tokens, and the ids that transformers gives them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

MARKS = ("special", "normalized", "lstrip", "rstrip", "single_word")


@dataclass(frozen=True)
class AddedToken:
    """A token matched in the text before anything else, as tokenizer.json and tokenizer_config.json describe it.

    Attributes:
        id: its number.
        content: the text that is matched.
        special: it plays a part in prompts and is left out of shown text.
        normalized: it is matched in normalized text.
        lstrip: white space before it belongs to it.
        rstrip: white space after it belongs to it.
        single_word: it is no part of a longer word.
    """

    id: int
    content: str
    special: bool
    normalized: bool = False
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False

    @property
    def marks(self) -> dict[str, bool]:
        """Everything but its id and text."""
        return {mark: getattr(self, mark) for mark in MARKS}


def number(tokens: Iterable[AddedToken], ids: Mapping[str, int], size: int) -> list[AddedToken]:
    """Added tokens with the ids that the tokenizers library gives them, by id.

    It does not read the ids of its file: a text of the vocabulary keeps its id there, and every other token gets the
    next free one (``AddedVocabulary::add_tokens`` of tokenizers, added_vocabulary.rs). A text that comes again changes
    its marks.

    Args:
        tokens: in the order of adding, with the ids that their files give them.
        ids: the model's own tokens, text to id.
        size: how many there are.
    """
    found: dict[str, AddedToken] = {}
    last = -1
    for token in tokens:
        if not token.content:
            continue
        token_id = ids.get(token.content)
        if token_id is None:
            token_id = found[token.content].id if token.content in found else max(last + 1, size)
        last = max(last, token_id)
        found[token.content] = replace(token, id=token_id)
    return sorted(found.values(), key=lambda token: token.id)


def moved(listed: Iterable[AddedToken], numbered: Iterable[AddedToken]) -> list[str]:
    """A sentence where files give added tokens other ids than transformers does, else nothing."""
    ids = {token.content: token.id for token in numbered}
    # Those that only have a name, and -1 for an id, move from nowhere.
    others = {
        token.content: token.id for token in listed if token.id >= 0 and token.id != ids.get(token.content, token.id)
    }
    if not others:
        return []
    text, given = next(iter(others.items()))
    more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
    return [
        f"the ids of added tokens leave a hole: {text!r}{more} is {given} in its file, but transformers numbers them "
        f"one after the other and reads {ids[text]}; it is written as transformers reads it"
    ]
