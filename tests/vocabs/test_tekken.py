"""tekken.json, judged by transformers' conversion of it, by llama.cpp, and by the definition of its ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gguf import TokenType
from vocabs.other_kinds import TEKKEN_SPECIAL, tekken
from vocabs.small_tokenizers import edit

from converter.errors import VocabularyError
from converter.vocabs import prove, read_vocabulary
from converter.vocabs.probe import probe_texts
from converter.vocabs.tekken import EARLY_SPECIAL_TOKENS, Tekken


@pytest.mark.parametrize("with_special", [True, False])
def test_proof(tmp_path: Path, with_special: bool) -> None:
    size = tekken(tmp_path, with_special=with_special)
    vocabulary = read_vocabulary(tmp_path, size)
    assert (vocabulary.model, vocabulary.pre) == ("gpt2", "tekken")
    proof = prove(vocabulary, tmp_path)
    assert proof.agreeing
    assert all("lower case in ASCII only" in limit for limit in proof.limits)
    fillers = [f"<SPECIAL_{number}>" for number in range(9, 12)]
    special = [*TEKKEN_SPECIAL, *fillers] if with_special else list(EARLY_SPECIAL_TOKENS)
    assert vocabulary.tokens[: len(special)] == special
    assert set(vocabulary.types[: len(special)]) == {TokenType.CONTROL}
    assert vocabulary.add_special == {"bos": True}
    roles = ("unk", "bos", "eos", "pad", "fim_pre", "fim_mid", "fim_suf")
    texts = ("<unk>", "<s>", "</s>", "<pad>", "[PREFIX]", "[MIDDLE]", "[SUFFIX]")
    assert vocabulary.special_ids == {role: special.index(text) for role, text in zip(roles, texts, strict=True)}


def test_definition_agrees_with_transformers(tmp_path: Path) -> None:
    from transformers.integrations.mistral.tokenizer import MistralConverter

    size = tekken(tmp_path)
    theirs = MistralConverter(str(tmp_path / "tekken.json")).converted()
    texts = probe_texts(TEKKEN_SPECIAL)
    ours = Tekken(tmp_path / "tekken.json").encode(texts, add_special=False)
    assert ours == [encoding.ids for encoding in theirs.encode_batch(texts, add_special_tokens=False)]
    vocabulary = read_vocabulary(tmp_path, size)
    assert list(vocabulary.tokens) == [theirs.id_to_token(number) for number in range(size)]
    # mistral-common begins a text with <s>, and llama.cpp's converter says so too.
    assert Tekken(tmp_path / "tekken.json").encode(["a"], add_special=True)[0][0] == TEKKEN_SPECIAL.index("<s>")


def change_config(**changes: Any):
    return lambda data: data["config"].update(changes)


# fmt: off
DAMAGES = [
    (lambda data: data.pop("config"), "config is NoneType 'None'; an object was expected; fetch the file again"),
    (change_config(pattern=None), "config.pattern is NoneType 'None'; a string was expected; fetch the file again"),
    (change_config(default_vocab_size=10**6),
     "config.default_vocab_size is 1000000, with 12 special tokens and 900 others in the file; fetch the file again"),
    (change_config(default_num_special_tokens=5, default_vocab_size=800),
     "special token 8 is beyond config.default_num_special_tokens, 5; fetch the file again"),
    (lambda data: data["vocab"][3].update(token_bytes="A"), "vocab[3].token_bytes is not base64"),
    (lambda data: data["vocab"][300].update(token_bytes="AA=="),
     "vocab lacks single bytes or has tokens twice; fetch the file again"),
    (lambda data: data["special_tokens"][0].update(rank="x"),
     "special_tokens[0].rank is str 'x'; an integer was expected; fetch the file again"),
]
# fmt: on


@pytest.mark.parametrize(("change", "message"), DAMAGES)
def test_damaged(tmp_path: Path, change: Any, message: str) -> None:
    tekken(tmp_path)
    edit(tmp_path / "tekken.json", change)
    with pytest.raises(VocabularyError) as refusal:
        read_vocabulary(tmp_path, 2000)
    assert str(refusal.value).startswith(f"{tmp_path / 'tekken.json'}: {message}")
    assert "\n" not in str(refusal.value)


def test_expression_that_is_none(tmp_path: Path) -> None:
    size = tekken(tmp_path)
    edit(tmp_path / "tekken.json", change_config(pattern="(("))
    with pytest.raises(VocabularyError, match=r"config.pattern is no regular expression"):
        prove(read_vocabulary(tmp_path, size, pre="tekken"), tmp_path)
