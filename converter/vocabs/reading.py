"""Which kind of vocabulary a directory holds."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

from converter.errors import VocabularyError
from converter.vocabs import structure
from converter.vocabs.byte_pair import read_byte_pair
from converter.vocabs.files import expect, read_tokenizer_files
from converter.vocabs.pretokenizers import NAMES
from converter.vocabs.sentencepieces import read_byte_fallback, read_sentencepiece
from converter.vocabs.vocabulary import Vocabulary


def read_files(directory: Path, vocab_size: int, *, pre: str | None = None) -> Vocabulary:
    """Read the vocabulary as far as its files decide it; ``pre`` stays ``""`` where they do not name one.

    A byte-level tokenizer.json comes first; otherwise tokenizer.model, which has the true scores, before a
    tokenizer.json that imitates it.
    """
    if pre is not None and pre not in NAMES:
        near = difflib.get_close_matches(pre, NAMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(NAMES))}"
        raise VocabularyError(f"--pre {pre}: llama.cpp has no pre-tokenizer of that name; {hint}")
    files = read_tokenizer_files(directory)
    model = expect(files.tokenizer.get("model") or {}, dict, f"{directory / 'tokenizer.json'}: model")
    if files.tokenizer and structure.is_byte_level(files.tokenizer):
        vocabulary = read_byte_pair(files, vocab_size)
    elif files.sentencepiece_model.is_file():
        vocabulary = read_sentencepiece(files, vocab_size)
    elif model.get("byte_fallback"):
        vocabulary = read_byte_fallback(files, vocab_size)
    else:
        raise VocabularyError(
            f"{directory / 'tokenizer.json'}: a {model.get('type')} tokenizer that is neither byte-level BPE nor of "
            "sentencepiece's kind (byte_fallback); only those can be converted so far"
        )
    vocabulary = replace(vocabulary, files=files.without_model())
    return vocabulary if pre is None else replace(vocabulary, pre=pre, candidates=(pre,), given=True)
