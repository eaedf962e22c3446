"""Which kind of vocabulary a directory holds."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from converter.errors import VocabularyError
from converter.vocabs import structure
from converter.vocabs.added_tokens import moved
from converter.vocabs.byte_pair import read_byte_pair
from converter.vocabs.end_of_generation import end_tokens, fill_in_the_middle
from converter.vocabs.files import TEKKEN, TokenizerFiles, expect, read_tokenizer_files
from converter.vocabs.pretokenizers import NAMES
from converter.vocabs.sentencepieces import read_byte_fallback, read_sentencepiece, read_shown_parts
from converter.vocabs.tekken import read_tekken
from converter.vocabs.tiktoken import read_tiktoken
from converter.vocabs.token_ids import end_without, missing_texts, read_token_ids
from converter.vocabs.unigram import read_unigram
from converter.vocabs.vocabulary import Vocabulary
from converter.vocabs.wordpiece import read_wordpiece


def read_files(directory: Path, vocab_size: int, *, pre: str | None = None) -> Vocabulary:
    """Read the vocabulary as far as its files decide it; ``pre`` stays ``""`` where they do not name one.

    tokenizer.json comes first, then tekken.json, then tokenizer.model, tiktoken's or sentencepiece's; but of a BPE that
    imitates sentencepiece's, tokenizer.model has the true scores.
    """
    if pre is not None and pre not in NAMES:
        near = difflib.get_close_matches(pre, NAMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(NAMES))}"
        raise VocabularyError(f"--pre {pre}: llama.cpp has no pre-tokenizer of that name; {hint}")
    files = read_tokenizer_files(directory)
    vocabulary = _reader(files)(files, vocab_size)
    vocabulary = replace(vocabulary, special_ids={**fill_in_the_middle(vocabulary), **vocabulary.special_ids})
    files = vocabulary.files or files
    listed = read_token_ids(files, vocab_size)
    ends, limits = end_tokens(listed.ends, vocabulary)
    missing = missing_texts(files, vocabulary.tokens)
    left_out = [*missing.values(), *listed.left_out]
    if left_out and "eos" not in {**vocabulary.special_ids, **ends}:
        left_out.append(end_without(vocabulary.model, vocabulary.tokens))
    vocabulary = replace(
        vocabulary,
        special_ids={**vocabulary.special_ids, **ends},
        left_out=tuple(filter(None, left_out)),
        dropped=tuple(text for text in vocabulary.dropped if text not in missing),
        limits=(*moved(files.listed_tokens, files.added_tokens), *limits),
        files=files.without_model(),
    )
    return vocabulary if pre is None else replace(vocabulary, pre=pre, candidates=(pre,), given=True)


def _reader(files: TokenizerFiles) -> Callable[[TokenizerFiles, int], Vocabulary]:
    where = files.tokenizer_file
    model = expect(files.tokenizer.get("model") or {}, dict, f"{where}: model")
    kind = model.get("type", "BPE")
    if files.tokenizer and structure.is_byte_level(files.tokenizer):
        return read_byte_pair
    if kind in ("WordPiece", "Unigram"):
        return {"WordPiece": read_wordpiece, "Unigram": read_unigram}[kind]
    if not files.tokenizer and (files.directory / TEKKEN).is_file():
        return read_tekken
    if not files.tokenizer and files.has_tiktoken_model:
        return read_tiktoken
    shows_parts = structure.shows_parts(files.tokenizer)
    if files.sentencepiece_model.is_file() and not files.built and not shows_parts:
        return read_sentencepiece
    if model.get("byte_fallback"):
        return read_shown_parts if shows_parts else read_byte_fallback
    raise VocabularyError(
        f"{where}: a {kind} tokenizer that is neither byte-level nor of sentencepiece's kind (byte_fallback); "
        "llama.cpp has no tokenizer like it"
    )
