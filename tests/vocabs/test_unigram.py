"""Unigram in llama.cpp's terms, judged by sentencepiece, the tokenizers library and llama.cpp."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path

import pytest
from gguf import SpecialVocab, TokenType
from sentencepiece import SentencePieceNormalizer, SentencePieceProcessor
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from vocabs.other_kinds import t5_sentencepiece, unigram
from vocabs.small_tokenizers import edit

from converter.errors import VocabularyError
from converter.vocabs import prove, read_vocabulary
from converter.vocabs.model_proto import normalizer_model, read_model_proto
from converter.vocabs.vocab_only_gguf import write_vocabulary

RULES, SPACES, BYTES, TIES = "sentencepiece does", "adds a space", "as bytes", "double precision"
STRIP_AND_MERGE = [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")]


def metaspace(scheme: str) -> pre_tokenizers.Metaspace:
    return pre_tokenizers.Metaspace("▁", prepend_scheme=scheme)


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ({}, {RULES}),
        ({"begin": True}, {RULES}),
        ({"byte_fallback": True}, {RULES, BYTES}),
        ({"pre_tokenizer": metaspace("always"), "normalizer": STRIP_AND_MERGE}, {RULES}),
        ({"pre_tokenizer": metaspace("first"), "normalizer": STRIP_AND_MERGE}, {RULES, SPACES}),
    ],
    ids=["T5", "XLM-R", "bytes", "always", "first"],
)
def test_tokenizer_json(tmp_path: Path, options: dict, limits: set[str]) -> None:
    size = unigram(tmp_path, **options)
    vocabulary = read_vocabulary(tmp_path, size + 3)
    assert (vocabulary.model, vocabulary.add_space_prefix, vocabulary.remove_extra_whitespaces) == ("t5", True, True)
    assert vocabulary.add_special == {"bos": "begin" in options, "eos": True, "sep": False}
    proof = prove(vocabulary, tmp_path)
    assert proof.agreeing
    assert {limit for limit in limits if any(limit in said for said in proof.limits)} == limits
    assert len(proof.limits) == len(limits)


def test_keys(tmp_path: Path) -> None:
    size = unigram(tmp_path, begin=True)
    vocabulary = read_vocabulary(tmp_path, size + 2)
    source = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    processor = SentencePieceProcessor(model_file=str(tmp_path / "sentencepiece" / "tokenizer.model"))
    pieces = processor.vocab_size()
    assert vocabulary.tokens[:size] == [source.id_to_token(number) for number in range(size)]
    assert vocabulary.scores is not None
    assert vocabulary.scores[:pieces] == pytest.approx([processor.get_score(number) for number in range(pieces)])
    assert vocabulary.types == [3, 3, 2, 3, *[TokenType.NORMAL] * (pieces - 4), 3, 3, 3, 4, 5, 5]
    reading = SpecialVocab(tmp_path, n_vocab=size)
    assert vocabulary.special_ids == reading.special_token_ids
    assert vocabulary.add_special == reading.add_special_token


def test_rules_of_normalization_arrive_whole(tmp_path: Path) -> None:
    size = unigram(tmp_path)
    vocabulary = read_vocabulary(tmp_path, size)
    write_vocabulary(tmp_path / "keys.gguf", vocabulary)
    source = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    (compiled,) = json.loads(source.normalizer.__getstate__())["normalizers"]
    rules = base64.b64decode(compiled["precompiled_charsmap"])
    assert rules in (tmp_path / "keys.gguf").read_bytes()
    without = dataclasses.replace(vocabulary, charsmap=b"", given=True)
    assert not prove(without, tmp_path).agreeing


def test_model_with_nothing_but_rules_normalizes_as_the_whole_one(tmp_path: Path) -> None:
    t5_sentencepiece(tmp_path, remove_extra_whitespaces=False, add_dummy_prefix=False)
    path = tmp_path / "tokenizer.model"
    rules = SentencePieceNormalizer(model_proto=normalizer_model(read_model_proto(path).charsmap))
    whole = SentencePieceProcessor(model_file=str(path))
    for text in ("ﬁ ＡＢ\t①", "e\u0301 \u1112\u1161\u11ab", "  a  b "):
        assert rules.normalize(text) == whole.normalize(text).replace("▁", " ")


@pytest.mark.parametrize("options", [{}, {"byte_fallback": True}, {"user_defined_symbols": ["<t>"]}])
def test_tokenizer_model(tmp_path: Path, options: dict) -> None:
    size = t5_sentencepiece(tmp_path, **options)
    vocabulary = read_vocabulary(tmp_path, size + 4)
    assert (vocabulary.model, vocabulary.special_ids) == ("t5", {"unk": 2, "eos": 1, "pad": 0})
    proof = prove(vocabulary, tmp_path)
    assert proof.agreeing
    assert all(BYTES in limit or TIES in limit for limit in proof.limits)
    assert any(BYTES in limit for limit in proof.limits) is ("byte_fallback" in options)


def test_name_of_the_model_file(tmp_path: Path) -> None:
    size = t5_sentencepiece(tmp_path)
    (tmp_path / "tokenizer.model").rename(tmp_path / "spiece.model")
    assert prove(read_vocabulary(tmp_path, size), tmp_path).agreeing


@pytest.mark.parametrize("options", [{"add_dummy_prefix": False}, {"treat_whitespace_as_suffix": True}])
def test_spaces_that_llama_cpp_cannot_put_there_are_refused(tmp_path: Path, options: dict) -> None:
    size = t5_sentencepiece(tmp_path, **options)
    with pytest.raises(VocabularyError, match=r"cannot give the source's tokens with a 't5' vocabulary: '7' is '7"):
        prove(read_vocabulary(tmp_path, size), tmp_path)


# fmt: off
DAMAGES = [
    ({"unk_id": None}, "model.unk_id is None; the id of the unknown token was expected"),
    ({"unk_id": 10**6}, "model.unk_id is 1000000; the id of the unknown token was expected"),
    ({"vocab": {}}, "model.vocab is dict '{}'; a list was expected; fetch the file again"),
    ({"vocab": [], "unk_id": 0}, "model.vocab is empty; the download may be incomplete, fetch it again"),
    ({"vocab": [["a", float("inf")]]}, "model.vocab[0] is \"['a', inf]\"; a text and its score were expected"),
    ({"vocab": [["a", -1e39]]}, "model.vocab[0] is \"['a', -1e+39]\"; a text and its score were expected"),
    ({"vocab": [["a"]]}, "model.vocab[0] is \"['a']\"; a text and its score were expected"),
]
# fmt: on


@pytest.mark.parametrize(("change", "message"), DAMAGES)
def test_damaged(tmp_path: Path, change: dict, message: str) -> None:
    unigram(tmp_path)
    edit(tmp_path / "tokenizer.json", lambda data: data["model"].update(change))
    assert refusal(tmp_path, 2000) == f"tokenizer.json: {message}"


@pytest.mark.parametrize("data", [b"\x04\0\0\0", b"\xff\xff\xff\xff1234\0", b"\0\0\0\0abc\0", b"\x04\0\0\0abcdx"])
def test_damaged_rules(tmp_path: Path, data: bytes) -> None:
    size = unigram(tmp_path)

    def damage(tokenizer: dict) -> None:
        tokenizer["normalizer"]["normalizers"][0]["precompiled_charsmap"] = base64.b64encode(data).decode()

    edit(tmp_path / "tokenizer.json", damage)
    assert refusal(tmp_path, size) == (
        f"tokenizer.json: the compiled normalization rules of {len(data)} bytes are damaged; fetch the file again"
    )


def test_more_pieces_than_rows(tmp_path: Path) -> None:
    size = unigram(tmp_path)
    assert refusal(tmp_path, 500).endswith(
        f"{size - 4} pieces, but the embedding has 500 rows; "
        "the tokenizer belongs to another model: name the right one with --tokenizer"
    )


def refusal(directory: Path, vocab_size: int) -> str:
    with pytest.raises(VocabularyError) as caught:
        read_vocabulary(directory, vocab_size)
    return str(caught.value).replace(f"{directory}/", "")
