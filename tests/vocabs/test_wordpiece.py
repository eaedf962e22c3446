"""WordPiece in llama.cpp's terms, judged by the tokenizers library, llama.cpp and the gguf package."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from gguf import SpecialVocab, TokenType
from tokenizers import Tokenizer
from vocabs.other_kinds import BERT_SPECIAL, wordpiece
from vocabs.small_tokenizers import edit

from converter.errors import VocabularyError
from converter.vocabs import prove, read_vocabulary

MARKS, CONTROLS, DOT = "all marks", "vertical tab", "'İ'"


@pytest.mark.parametrize(
    ("normalizer", "limits"),
    [
        ({}, (MARKS, CONTROLS)),
        ({"lowercase": False}, (CONTROLS,)),
        ({"strip_accents": False}, (DOT, CONTROLS)),
        ({"lowercase": False, "strip_accents": True}, (MARKS, CONTROLS)),
    ],
    ids=["uncased", "cased", "lower case only", "accents only"],
)
def test_what_bert_makes_of_a_text(tmp_path: Path, normalizer: dict[str, bool], limits: tuple[str, ...]) -> None:
    size = wordpiece(tmp_path, **normalizer)
    vocabulary = read_vocabulary(tmp_path, size + 2)
    assert vocabulary.model == "bert"
    lowercase = normalizer.get("lowercase", True)
    assert vocabulary.normalizer == {
        "lowercase": lowercase,
        "strip_accents": normalizer.get("strip_accents", lowercase),
    }
    proof = prove(vocabulary, tmp_path)
    assert proof.agreeing
    assert len(proof.limits) == len(limits)
    for limit in limits:
        assert any(limit in said for said in proof.limits)


def test_keys(tmp_path: Path) -> None:
    size = wordpiece(tmp_path, user_defined=("<tool>", "Xy"))
    vocabulary = read_vocabulary(tmp_path, size + 2)
    source = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    texts = [source.id_to_token(number) for number in range(size)]
    expected = [
        text if text in BERT_SPECIAL else text[2:] if text.startswith("##") else f"▁{text}" for text in texts[:-2]
    ]
    assert vocabulary.tokens == [*expected, "<tool>", "Xy", f"▁[PAD{size}]", f"▁[PAD{size + 1}]"]
    assert vocabulary.types == [*[TokenType.CONTROL] * 5, *[TokenType.NORMAL] * (size - 7), 4, 4, 5, 5]
    reading = SpecialVocab(tmp_path, n_vocab=size)
    assert vocabulary.special_ids == reading.special_token_ids
    assert vocabulary.add_special == reading.add_special_token == {"bos": True, "eos": True, "sep": False}
    keys = {pair.key: pair.value for pair in vocabulary.key_values()}
    assert keys["tokenizer.ggml.normalizer.lowercase"] is keys["tokenizer.ggml.normalizer.strip_accents"] is True
    assert keys["tokenizer.ggml.seperator_token_id"] == 3
    assert prove(vocabulary, tmp_path).agreeing


def test_lower_case_that_is_not_said_is_found(tmp_path: Path) -> None:
    size = wordpiece(tmp_path, lowercase=False)
    vocabulary = dataclasses.replace(read_vocabulary(tmp_path, size), normalizer={}, given=True)
    proof = prove(vocabulary, tmp_path)
    assert proof.difference is not None
    assert any(letter.isupper() for letter in proof.difference.text)


def test_long_words(tmp_path: Path) -> None:
    """The source gives up on them, llama.cpp does not."""
    size = wordpiece(tmp_path)
    edit(tmp_path / "tokenizer.json", lambda data: data["model"].update(max_input_chars_per_word=12))
    proof = prove(read_vocabulary(tmp_path, size), tmp_path)
    assert any("words of any length" in limit for limit in proof.limits)


def test_chinese_as_words_is_refused(tmp_path: Path) -> None:
    size = wordpiece(tmp_path, handle_chinese_chars=False)
    with pytest.raises(
        VocabularyError, match=r"takes every Chinese character for a word of its own, which the source does not"
    ):
        prove(read_vocabulary(tmp_path, size), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unk_token": "[NONE]"}, "model.unk_token is '[NONE]', which is no token; fetch the file again"),
        (
            {"continuing_subword_prefix": ""},
            "model.continuing_subword_prefix is empty; llama.cpp needs pieces to be marked",
        ),
        ({"vocab": []}, "model.vocab is list '[]'; an object was expected; fetch the file again"),
    ],
)
def test_damaged(tmp_path: Path, change: dict[str, object], message: str) -> None:
    wordpiece(tmp_path)
    edit(tmp_path / "tokenizer.json", lambda data: data["model"].update(change))
    with pytest.raises(VocabularyError) as refusal:
        read_vocabulary(tmp_path, 5000)
    assert str(refusal.value) == f"{tmp_path / 'tokenizer.json'}: {message}"
