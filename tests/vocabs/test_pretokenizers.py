"""The table of pre-tokenizers against llama.cpp itself: a tokenizer is trained on every structure in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from vocabs.small_tokenizers import byte_level, edit

from converter.errors import VocabularyError
from converter.runtime import run_isolated
from converter.vocabs import prove, read_vocabulary
from converter.vocabs.pretokenizers import LLAMA3, NAMES, PRE_TOKENIZERS, approximations, candidates
from converter.vocabs.structure import canonical_regex
from converter.vocabs.vocab_only_gguf import write_vocabulary

CASES = [
    pytest.param(row, steps, id=f"{row.names[0]}-{number}")
    for row in PRE_TOKENIZERS
    for number, steps in enumerate(row.structures)
]
# llama.cpp compiles these expressions with another engine, which reads \b and \p{Lu} differently.
DEVIATING = {"tiny_aya": "12345abc", "youtu": "aÀbÈ"}


@pytest.mark.parametrize(("row", "steps"), [case for case in CASES if case.values[0].names[0] not in DEVIATING])
def test_derived_name_is_proved(tmp_path: Path, row, steps) -> None:
    size = byte_level(
        tmp_path,
        steps,
        ignore_merges=row.ignore_merges,
        settings={"clean_up_tokenization_spaces": row.clean_spaces},
    )
    vocabulary = read_vocabulary(tmp_path, size)
    assert row.names[0] in vocabulary.candidates
    proof = prove(vocabulary, tmp_path)
    assert proof.agreeing
    assert proof.probes > 600
    assert proof.vocabulary.pre == vocabulary.candidates[0]
    close = approximations(steps).get(proof.vocabulary.pre)
    assert proof.limits == ((close[1],) if close else ())


@pytest.mark.parametrize(("name", "text"), DEVIATING.items())
def test_deviation_of_llama_cpp_is_found(tmp_path: Path, name: str, text: str) -> None:
    (row,) = [row for row in PRE_TOKENIZERS if name in row.names]
    size = byte_level(tmp_path, row.structures[0], ignore_merges=row.ignore_merges)
    assert candidates(row.structures[0], ignore_merges=row.ignore_merges, clean_spaces=None) == (name,)
    proof = prove(read_vocabulary(tmp_path, size, pre=name), tmp_path)
    assert not proof.agreeing
    assert proof.difference is not None
    assert proof.difference.text == text


def test_llama_cpp_knows_every_name_and_no_other(tmp_path: Path) -> None:
    (row,) = [row for row in PRE_TOKENIZERS if "llama-bpe" in row.names]
    vocabulary = read_vocabulary(tmp_path, byte_level(tmp_path, row.structures[0], vocab_size=300))
    write_vocabulary(tmp_path / "vocabulary.gguf", vocabulary)
    names = [*sorted(NAMES), "no-such-pre-tokenizer"]
    answers = run_isolated(
        "converter.vocabs.llama_cpp_tokenizer:tokenize",
        path=str(tmp_path / "vocabulary.gguf"),
        names=names,
        texts=[],
        whole=[],
    )
    assert [name for name, answer in zip(names, answers, strict=True) if answer is None] == ["no-such-pre-tokenizer"]


def test_names_are_in_one_row_only() -> None:
    names = [name for row in PRE_TOKENIZERS for name in row.names]
    assert len(names) == len(set(names)) > 85


@pytest.mark.parametrize(
    "spelling",
    [
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
        "'(?i:[sdmt]|ll|ve|re)",
        "(?i:'(?:[sdmt]|ll|ve|re))",
        "'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])",
    ],
)
def test_spellings_of_the_contractions(tmp_path: Path, spelling: str) -> None:
    rest = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    size = byte_level(tmp_path, (spelling + rest,), ignore_merges=True)
    vocabulary = read_vocabulary(tmp_path, size)
    assert vocabulary.candidates[0] == "llama-bpe"
    assert prove(vocabulary, tmp_path).vocabulary.pre == "llama-bpe"


@pytest.mark.parametrize(
    "spelling", ["(?:'s|'t|'re|'ve|'m|'ll|'d)", "(?i:'s|'t|'re|'ve|'m|'ll)", "(?i:a|b)", r"\(?i:'s\)"]
)
def test_other_groups_keep_their_spelling(spelling: str) -> None:
    assert canonical_regex(spelling) == spelling


def test_possessive_quantifiers_and_line_ends() -> None:
    assert canonical_regex("[^\r\n\\p{L}]?+\\p{L}++|\\p{N}{1}|[()*+,]") == r"[^\r\n\p{L}]?\p{L}+|\p{N}|[()*+,]"


def test_structure_that_no_name_has_is_resolved_by_trying(tmp_path: Path) -> None:
    """Llama 3's expression with its classes spelled as no table has them."""
    respelled = LLAMA3.replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{N}\p{L}]").replace(r"[\r\n]", r"[\n\r]")
    size = byte_level(tmp_path, (respelled,))
    vocabulary = read_vocabulary(tmp_path, size)
    assert vocabulary.candidates == ()
    assert vocabulary.pre == "llama-bpe"
    assert prove(vocabulary, tmp_path).vocabulary.pre == "llama-bpe"


def test_words_without_merges_decide_whether_merges_are_ignored(tmp_path: Path) -> None:
    (row,) = [row for row in PRE_TOKENIZERS if "smaug-bpe" in row.names]
    words = ("Ġzyzzyva", "Qwghlm")
    size = byte_level(tmp_path, row.structures[0], ignore_merges=True, unmergeable=words)
    ignoring = prove(read_vocabulary(tmp_path, size), tmp_path)
    assert ignoring.vocabulary.pre == "llama-bpe"
    assert not prove(read_vocabulary(tmp_path, size, pre="smaug-bpe"), tmp_path).agreeing

    edit(tmp_path / "tokenizer.json", lambda data: data["model"].update(ignore_merges=False))
    merging = prove(read_vocabulary(tmp_path, size), tmp_path)
    assert merging.vocabulary.pre == "smaug-bpe"
    assert not prove(read_vocabulary(tmp_path, size, pre="llama-bpe"), tmp_path).agreeing


def test_nothing_fits(tmp_path: Path) -> None:
    size = byte_level(tmp_path, (r"\p{N}{1,5}|[^\p{N}]{1,3}",))
    with pytest.raises(VocabularyError) as refusal:
        read_vocabulary(tmp_path, size)
    message = str(refusal.value)
    where = tmp_path / "tokenizer.json"
    assert message.startswith(f"{where}: none of llama.cpp's pre-tokenizers gives the source's tokens; with ")
    assert " for the source and " in message
    assert r"its pre-tokenizer splits text by '\p{N}{1,5}|[^\p{N}]{1,3}', which none of llama.cpp's does" in message
    assert re.search(r"; --pre [a-z0-9-]+ writes the file anyway$", message)
    assert "\n" not in message
    given = prove(read_vocabulary(tmp_path, size, pre="gpt-2"), tmp_path)
    assert (given.agreeing, given.vocabulary.pre) == (False, "gpt-2")
    assert given.difference is not None
    assert given.difference.source != given.difference.llama_cpp
