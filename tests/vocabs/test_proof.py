"""What the proof finds and what it forgives, llama.cpp and the source's own tokenizer being the judges."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from gguf import TokenType
from tokenizers import Regex, normalizers, pre_tokenizers
from vocabs.small_tokenizers import SPECIAL, byte_level, edit, fast_sentencepiece, sentencepiece

from converter.errors import VocabularyError
from converter.vocabs import prove, prove_file, read_vocabulary
from converter.vocabs.pretokenizers import LLAMA3, QWEN2
from converter.vocabs.probe import probe_texts
from converter.vocabs.vocab_only_gguf import write_vocabulary


def test_the_probe_is_several_hundred_distinct_strings() -> None:
    texts = probe_texts(SPECIAL)
    assert len(set(texts)) == len(texts) > 700
    assert all(texts)
    assert sum(SPECIAL[0] in text for text in texts) >= 10


def test_composition_is_forgiven_and_said(tmp_path: Path) -> None:
    size = byte_level(tmp_path, (QWEN2,), nfc=True)
    proof = prove(read_vocabulary(tmp_path, size), tmp_path)
    assert proof.agreeing
    assert [limit for limit in proof.limits if "NFC" in limit] == list(proof.limits) != []


def test_lower_case_is_not_forgiven(tmp_path: Path) -> None:
    size = byte_level(tmp_path, (QWEN2,))
    edit(tmp_path / "tokenizer.json", lambda data: data.update(normalizer={"type": "Lowercase"}))
    with pytest.raises(VocabularyError, match=r"no counterpart of the source's normalizer Lowercase .* 'The' is 'the'"):
        prove(read_vocabulary(tmp_path, size), tmp_path)


def test_spaces_dropped_by_added_tokens_are_forgiven_and_said(tmp_path: Path) -> None:
    size = byte_level(tmp_path, (QWEN2,))
    edit(tmp_path / "tokenizer.json", lambda data: data["added_tokens"][2].update(rstrip=True, lstrip=True))
    proof = prove(read_vocabulary(tmp_path, size), tmp_path)
    assert proof.limits == (f"llama.cpp keeps the spaces around {SPECIAL[2]!r} that the source drops",)


def test_wrong_merges_are_found(tmp_path: Path) -> None:
    size = byte_level(tmp_path, (LLAMA3,))
    vocabulary = read_vocabulary(tmp_path, size, pre="llama-bpe")
    assert vocabulary.merges is not None
    assert prove(vocabulary, tmp_path).agreeing
    reversed_ = dataclasses.replace(vocabulary, merges=vocabulary.merges[::-1])
    assert not prove(reversed_, tmp_path).agreeing


def test_wrong_begin_token_is_found(tmp_path: Path) -> None:
    size = byte_level(tmp_path, (LLAMA3,), ignore_merges=True)
    vocabulary = dataclasses.replace(read_vocabulary(tmp_path, size), add_special={"bos": False}, given=True)
    proof = prove(vocabulary, tmp_path)
    assert proof.difference is not None
    assert proof.difference.source[0] == SPECIAL[0]
    assert proof.difference.source[1:] == proof.difference.llama_cpp


def test_finished_file(tmp_path: Path) -> None:
    size = byte_level(tmp_path, (LLAMA3,), ignore_merges=True)
    vocabulary = read_vocabulary(tmp_path, size)
    write_vocabulary(tmp_path / "right.gguf", vocabulary)
    assert prove_file(tmp_path / "right.gguf", tmp_path).agreeing
    write_vocabulary(tmp_path / "wrong.gguf", dataclasses.replace(vocabulary, pre="gpt-2"))
    proof = prove_file(tmp_path / "wrong.gguf", tmp_path)
    assert not proof.agreeing
    assert proof.difference is not None
    assert proof.difference.text == "7777"
    (tmp_path / "broken.gguf").write_bytes((tmp_path / "right.gguf").read_bytes()[:5000])
    with pytest.raises(VocabularyError, match=r"broken.gguf: llama.cpp does not load"):
        prove_file(tmp_path / "broken.gguf", tmp_path)


def test_vocabulary_that_ends_llama_cpp_is_one_line(tmp_path: Path) -> None:
    """llama.cpp asserts that texts differ; the assertion ends the process it is in."""
    size = byte_level(tmp_path, (LLAMA3,), ignore_merges=True)
    vocabulary = read_vocabulary(tmp_path, size)
    twice = dataclasses.replace(vocabulary, tokens=[*vocabulary.tokens[:-1], vocabulary.tokens[0]])
    with pytest.raises(VocabularyError, match=r"llama.cpp does not load this vocabulary: .*SIGABRT") as refusal:
        prove(twice, tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("add_dummy_prefix", [True, False])
def test_sentencepiece(tmp_path: Path, add_dummy_prefix: bool) -> None:
    size = sentencepiece(tmp_path, add_dummy_prefix=add_dummy_prefix, control_symbols=["[INST]"])
    vocabulary = read_vocabulary(tmp_path, size + 10)
    assert (vocabulary.model, vocabulary.pre) == ("llama", "default")
    assert vocabulary.add_space_prefix is (None if add_dummy_prefix else False)
    proof = prove(vocabulary, tmp_path)
    assert (proof.agreeing, proof.limits) == (True, ())


def test_sentencepiece_with_added_tokens(tmp_path: Path) -> None:
    size = sentencepiece(
        tmp_path, settings={"add_bos_token": False, "add_eos_token": True}, user_defined_symbols=["<t>"]
    )
    decoder = {
        str(size): {"content": "<image>", "special": False},
        str(size + 1): {"content": "<|im_end|>", "special": True},
    }
    edit(tmp_path / "tokenizer_config.json", lambda data: data.update(added_tokens_decoder=decoder))
    vocabulary = read_vocabulary(tmp_path, size + 2)
    assert vocabulary.types[-2:] == [TokenType.USER_DEFINED, TokenType.CONTROL]
    assert vocabulary.add_special == {"bos": False, "eos": True}
    assert prove(vocabulary, tmp_path).agreeing


def test_sentencepiece_that_removes_spaces_is_refused(tmp_path: Path) -> None:
    size = sentencepiece(tmp_path, remove_extra_whitespaces=True)
    with pytest.raises(VocabularyError, match=r"for the source and .* for llama.cpp"):
        prove(read_vocabulary(tmp_path, size), tmp_path)


SPACES_TO_BARS = normalizers.Replace(" ", "▁")
METASPACE = [
    pre_tokenizers.Metaspace("▁", prepend_scheme=scheme, split=False) for scheme in ("always", "first", "never")
]


@pytest.mark.parametrize(
    ("pre_tokenizer", "normalizer", "limits", "prefix"),
    [
        (None, normalizers.Sequence([normalizers.Prepend("▁"), SPACES_TO_BARS]), 0, None),
        (METASPACE[0], None, 1, None),
        (METASPACE[1], None, 1, None),
        (METASPACE[2], None, 0, False),
        (pre_tokenizers.Split(Regex(" "), "merged_with_previous"), SPACES_TO_BARS, 0, False),
    ],
    ids=["prepend", "always", "first", "never", "replace"],
)
def test_tokenizer_json_of_sentencepiece(tmp_path: Path, pre_tokenizer, normalizer, limits: int, prefix) -> None:
    """Scores come from merges here, and they give the same tokens."""
    size = fast_sentencepiece(tmp_path, pre_tokenizer=pre_tokenizer, normalizer=normalizer)
    vocabulary = read_vocabulary(tmp_path, size)
    assert (vocabulary.model, vocabulary.add_space_prefix) == ("llama", prefix)
    assert vocabulary.types[:3] == [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    assert vocabulary.types[3:259] == [TokenType.BYTE] * 256
    proof = prove(vocabulary, tmp_path)
    assert proof.agreeing
    assert len(proof.limits) == limits
    assert all("space" in limit for limit in proof.limits)
