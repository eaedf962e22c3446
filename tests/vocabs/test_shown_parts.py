"""Gemma 4's tokenizer: merges by rank on text whose spaces are ``▁``, and special tokens that llama.cpp writes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf import TokenType
from tokenizers import Regex, normalizers, pre_tokenizers
from vocabs.small_tokenizers import edit, fast_sentencepiece

from converter.errors import VocabularyError
from converter.vocabs import prove, read_vocabulary
from converter.vocabs.structure import SHOWN

TURNS = ["<|turn>", "<turn|>"]
TAGS = ["\n\n", "<table>", "</s>"]
RENAMED = {"<s>": "<bos>", "</s>": "<eos>"}


def gemma4(directory: Path, *, begins: bool = False) -> int:
    """A tokenizer.json of that kind whose merges are not all ways to make a token. Returns its size."""
    spaces = normalizers.Replace(" ", "▁")
    split = pre_tokenizers.Split(Regex(" "), "merged_with_previous")
    size = fast_sentencepiece(directory, pre_tokenizer=split, normalizer=spaces)
    special = [*sorted(SHOWN), *TURNS]

    def change(data: dict[str, Any]) -> None:
        texts = [*special, *TAGS]
        marks = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        for old, new in RENAMED.items():
            data["model"]["vocab"][new] = data["model"]["vocab"].pop(old)
        data["added_tokens"] = json.loads(renamed(data["added_tokens"]))
        data["post_processor"] = json.loads(renamed(data["post_processor"])) if begins else None
        data["added_tokens"] += [
            {"id": size + number, "content": text, "special": text in special, **marks}
            for number, text in enumerate(texts)
        ]
        merges = data["model"]["merges"]
        data["model"]["merges"] = [merge for merge in merges if len(merge[0]) == 1 or len(merge[1]) == 1]

    edit(directory / "tokenizer.json", change)
    edit(directory / "tokenizer_config.json", lambda data: data.update(bos_token="<bos>", eos_token="<eos>"))
    return size + len(special) + len(TAGS)


def renamed(part: Any) -> str:
    """A part of tokenizer.json, its begin and end tokens called as Gemma's are."""
    text = json.dumps(part)
    for old, new in RENAMED.items():
        text = text.replace(json.dumps(old), json.dumps(new))
    return text


@pytest.mark.parametrize("begins", [True, False])
def test_the_sources_tokens(tmp_path: Path, begins: bool) -> None:
    size = gemma4(tmp_path, begins=begins)
    vocabulary = read_vocabulary(tmp_path, size)
    assert (vocabulary.model, vocabulary.pre, vocabulary.add_special["bos"]) == ("gemma4", "gemma4", True)
    proof = prove(vocabulary, tmp_path)
    assert proof.agreeing
    # A chat template writes the begin token; where the tokenizer does not add it, llama.cpp still does.
    begin = {"llama.cpp begins every text with the begin token, which the source leaves to the prompt"}
    end = {"llama.cpp takes '</s>' for text where the source has a token for it"}
    assert {*proof.limits} == (end if begins else begin | end)


def test_kinds_of_tokens(tmp_path: Path) -> None:
    size = gemma4(tmp_path)
    vocabulary = read_vocabulary(tmp_path, size + 2)
    kinds = dict(zip(vocabulary.tokens, vocabulary.types, strict=True))
    assert {kinds[text] for text in SHOWN} == {TokenType.USER_DEFINED}
    assert {kinds[text] for text in [*TURNS, "<bos>", "<eos>", "<unk>"]} == {TokenType.CONTROL}
    assert (kinds["\n\n"], kinds["<table>"]) == (TokenType.USER_DEFINED, TokenType.USER_DEFINED)
    assert (kinds["<0x0A>"], kinds[f"[PAD{size}]"]) == (TokenType.BYTE, TokenType.UNUSED)


def test_scores_alone_do_not_give_them(tmp_path: Path) -> None:
    """Without the tokens that tell its kind, the same merges are taken for sentencepiece's and found not to be."""
    size = gemma4(tmp_path, begins=True)

    def plain(data: dict[str, Any]) -> None:
        for token in data["added_tokens"]:
            if token["content"] in SHOWN:
                token["content"] = f"<unused{token['id']}>"

    edit(tmp_path / "tokenizer.json", plain)
    with pytest.raises(VocabularyError, match="cannot give the source's tokens with a 'llama' vocabulary"):
        prove(read_vocabulary(tmp_path, size), tmp_path)


def test_a_begin_token_is_needed(tmp_path: Path) -> None:
    size = gemma4(tmp_path)
    edit(tmp_path / "tokenizer_config.json", lambda data: data.pop("bos_token"))
    with pytest.raises(VocabularyError, match="no begin token, with which llama") as refusal:
        read_vocabulary(tmp_path, size)
    assert "\n" not in str(refusal.value)
