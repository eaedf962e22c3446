"""Ids of special tokens in config.json and generation_config.json, all read here, and texts that stand for none.

transformers takes over what a configuration class says where a file is silent, so that an id may be another model's:
Phi-3's class has an end token of 32000 whatever the vocabulary. llama.cpp does not load a file with such an id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from converter.vocabs.files import TokenizerFiles, expect

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")

#: What sentencepiece and the first Llamas write where there is no such token.
NONE = -1

#: Where llama.cpp ends a text if a file names no end token, by the vocabulary's model (``llama_vocab::impl::load``).
ENDS_WITHOUT = {"gpt2": 11, "llama": 2, "gemma4": 2, "t5": 1}


@dataclass(frozen=True)
class TokenIds:
    """Ids that have a row in the embedding.

    Attributes:
        roles: role (``bos``, ``eos``, …) to id, from config.json or else its ``text_config``.
        ends: end tokens that generation_config.json lists, or else config.json, or else its ``text_config``.
        left_out: a sentence for each id without a row.
    """

    roles: dict[str, int]
    ends: list[int]
    left_out: list[str]


def read_token_ids(files: TokenizerFiles, vocab_size: int) -> TokenIds:
    """Read them.

    Args:
        files: the tokenizer's files.
        vocab_size: rows of the embedding; ids from there on do not exist.

    Raises:
        VocabularyError: one is no integer, or is a list of something else.
    """
    ids = TokenIds({}, [], [])
    listed: list[list[int]] = []
    missing: dict[tuple[str, int], list[str]] = {}
    for place, fields in _places(files):
        for role in ROLES:
            name = f"{role}_token_id"
            found = _ids(fields.get(name), f"{files.directory / place}: {name}")
            for token_id in found:
                if token_id != NONE and not 0 <= token_id < vocab_size:
                    missing.setdefault((name, token_id), []).append(place)
            within = [token_id for token_id in found if 0 <= token_id < vocab_size]
            if role == "eos" and fields.get(name) is not None:
                listed.append(within)
            if place != GENERATION and within and not isinstance(fields[name], list):
                ids.roles.setdefault(role, within[0])
    # The generation's come last of all places, but count before the others.
    ids.ends.extend(listed[-1] if files.generation.get("eos_token_id") is not None else next(iter(listed), []))
    ids.left_out.extend(
        f"{' and '.join(places)}: {name} {token_id} has no row among the {vocab_size} of the embedding; it is left out"
        for (name, token_id), places in missing.items()
    )
    return ids


GENERATION = "generation_config.json"


def _places(files: TokenizerFiles) -> Iterator[tuple[str, dict[str, Any]]]:
    inner: Any = files.config.get("text_config")
    yield "config.json", files.config
    if isinstance(inner, dict):
        yield "config.json (text_config)", inner
    yield GENERATION, files.generation


def _ids(given: Any, where: str) -> list[int]:
    if given is None:
        return []
    return [expect(token_id, int, where) for token_id in (given if isinstance(given, list) else [given])]


def missing_texts(files: TokenizerFiles, tokens: Sequence[str]) -> dict[str, str]:
    """Special tokens of tokenizer_config.json whose text no token has: the text, and a sentence about it.

    transformers numbers such a token behind all others, where the embedding has no row.

    Args:
        files: the tokenizer's files.
        tokens: one text for each row of the embedding.
    """
    known = set(tokens)
    named = ((role, text_of(files.settings.get(f"{role}_token"))) for role in ROLES)
    row = f"has no row among the {len(tokens)} of the embedding; it is left out"
    return {
        text: f"tokenizer_config.json: {role}_token {text!r} {row}"
        for role, text in named
        if text and text not in known and text.replace("▁", " ") not in known
    }


def text_of(entry: Any) -> str | None:
    """Text of a special token, written as a string or as an object with ``content``."""
    if isinstance(entry, dict):
        entry = entry.get("content")
    return entry if isinstance(entry, str) else None


def end_without(model: str, tokens: Sequence[str]) -> str:
    """What happens where a file names no end token, as the rest of a sentence; empty where llama.cpp assumes none."""
    token_id = ENDS_WITHOUT.get(model)
    if token_id is None or token_id >= len(tokens):
        return ""
    return f"no end token is left, so llama.cpp ends a text at token {token_id}, {tokens[token_id]!r}"
