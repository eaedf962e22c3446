"""A written vocabulary as llama.cpp sees it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_cpp_process import isolated

ROLES = ("bos", "eos", "eot", "sep", "nl", "pad", "fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep")


@dataclass(frozen=True)
class Special:
    """What is special in a vocabulary.

    Attributes:
        ends: ids at which a text ends.
        roles: the id of each role; -1 where there is none.
    """

    ends: frozenset[int]
    roles: dict[str, int]


@isolated
def special_tokens(path: Path) -> Special:
    """Ends and roles in the vocabulary of a file."""
    import llama_cpp

    with vocabulary_of(path) as vocabulary:
        numbers = range(llama_cpp.llama_vocab_n_tokens(vocabulary))
        ends = frozenset(number for number in numbers if llama_cpp.llama_vocab_is_eog(vocabulary, number))
        return Special(ends, {role: int(getattr(llama_cpp, f"llama_vocab_{role}")(vocabulary)) for role in ROLES})


@isolated
def tokenize(path: Path, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text, with what the file puts around it and special tokens in it for what they are."""
    import llama_cpp

    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    return [model.tokenize(text.encode(), add_bos=True, special=True) for text in texts]


@contextmanager
def vocabulary_of(path: Path) -> Iterator[Any]:
    import llama_cpp

    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), parameters)
    assert model, f"llama.cpp does not load the vocabulary of {path}"
    try:
        yield llama_cpp.llama_model_get_vocab(model)
    finally:
        llama_cpp.llama_model_free(model)
