"""Added tokens have the ids and marks that transformers reads, whatever their files say."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from vocabs.small_tokenizers import byte_level, edit, sentencepiece

from converter.errors import VocabularyError
from converter.vocabs import prove, read_vocabulary
from converter.vocabs.added_tokens import MARKS, AddedToken
from converter.vocabs.files import read_tokenizer_files
from converter.vocabs.pretokenizers import QWEN2

TEXTS = ["<a>", "<b>", "<c>", "<d>", "<e>", "an"]


def entry(text: str, **marks: bool) -> dict[str, Any]:
    return {"content": text, **dict.fromkeys(MARKS, False), **marks}


def of_transformers(directory: Path) -> list[AddedToken]:
    """What ``AutoTokenizer`` makes of the same files."""
    decoder = AutoTokenizer.from_pretrained(directory).backend_tokenizer.get_added_tokens_decoder()
    return [
        AddedToken(token_id, token.content, **{mark: getattr(token, mark) for mark in MARKS})
        for token_id, token in sorted(decoder.items())
    ]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    directory = tmp_path_factory.mktemp("plain")
    return directory, byte_level(directory, (QWEN2,), vocab_size=300)


def test_a_hole_between_ids_is_named(tmp_path: Path, plain: tuple[Path, int]) -> None:
    directory, size = plain
    shutil.copytree(directory, tmp_path / "model")
    far = [{"id": size + 6 + number, **entry(f"<|h{number}|>", special=True)} for number in range(2)]
    edit(tmp_path / "model" / "tokenizer.json", lambda data: data["added_tokens"].extend(far))
    proof = prove(read_vocabulary(tmp_path / "model", size + 16), tmp_path / "model")
    assert proof.agreeing
    source = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert proof.vocabulary.tokens.index("<|h0|>") == source.convert_tokens_to_ids("<|h0|>") == size
    assert proof.limits == (
        f"the ids of added tokens leave a hole: '<|h0|>' (and 1 more) is {size + 6} in its file, but transformers "
        f"numbers them one after the other and reads {size}; it is written as transformers reads it",
    )


@pytest.mark.parametrize("seed", range(40))
def test_any_files_are_read_as_transformers_reads_them(tmp_path: Path, plain: tuple[Path, int], seed: int) -> None:
    directory, size = plain
    chance = random.Random(seed)

    def marked(text: str) -> dict[str, Any]:
        return entry(text, **{mark: chance.random() < 0.3 for mark in MARKS})

    def listed(data: dict[str, Any]) -> None:
        for text in chance.sample(TEXTS, chance.randint(0, 4)):
            data["added_tokens"].append({"id": size + chance.randint(0, 9), **marked(text)})

    def configured(data: dict[str, Any]) -> None:
        if chance.random() < 0.5:
            chosen = chance.sample(TEXTS, chance.randint(0, 4))
            data["added_tokens_decoder"] = {str(size + chance.randint(0, 12)): marked(text) for text in chosen}
        if chance.random() < 0.4:
            data["pad_token"] = chance.choice(["<pad>", "<a>", "zz", "e"])
        if chance.random() < 0.3:
            data["additional_special_tokens"] = chance.sample(["<x>", "<b>", "<y>"], 2)
        if chance.random() < 0.2:
            data["image_token"] = "<img>"

    copy = tmp_path / "model"
    shutil.copytree(directory, copy)
    edit(copy / "tokenizer.json", listed)
    edit(copy / "tokenizer_config.json", configured)
    if chance.random() < 0.4:
        (copy / "added_tokens.json").write_text(json.dumps({text: size + number for number, text in enumerate(TEXTS)}))
    if chance.random() < 0.4:
        (copy / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<s2>"}))
    assert read_tokenizer_files(copy).added_tokens == of_transformers(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"pad_token": "e"},
        {"pad_token": "<pad>"},
        {"sep_token": {"__type": "AddedToken", **entry("<sep>", lstrip=True)}},
        {"extra_special_tokens": ["<x>"]},
        {"added_tokens_decoder": {"300": entry("<tool>", rstrip=True, special=True)}},
    ],
)
def test_the_written_tokens_are_transformers(tmp_path: Path, plain: tuple[Path, int], change: dict[str, Any]) -> None:
    """Ids, types and special ids of the file, not only of the reading."""
    directory, size = plain
    shutil.copytree(directory, tmp_path / "model")
    edit(tmp_path / "model" / "tokenizer_config.json", lambda data: data.update(change))
    source = AutoTokenizer.from_pretrained(tmp_path / "model")
    proof = prove(read_vocabulary(tmp_path / "model", size + 4), tmp_path / "model")
    for token in of_transformers(tmp_path / "model"):
        assert proof.vocabulary.tokens[token.id] == token.content
        assert proof.vocabulary.types[token.id] in (3, 4)
    for role in ("bos", "eos", "pad", "sep"):
        if (expected := getattr(source, f"{role}_token_id")) is not None:
            assert proof.vocabulary.special_ids[role] == expected


def test_special_tokens_map_names_special_tokens(tmp_path: Path, plain: tuple[Path, int]) -> None:
    directory, size = plain
    shutil.copytree(directory, tmp_path / "model")
    edit(tmp_path / "model" / "tokenizer_config.json", lambda data: data.pop("eos_token"))
    edit(tmp_path / "model" / "special_tokens_map.json", lambda data: data.update(eos_token="<|eot_id|>"))
    vocabulary = read_vocabulary(tmp_path / "model", size)
    assert vocabulary.special_ids["eos"] == AutoTokenizer.from_pretrained(tmp_path / "model").eos_token_id == 2


def test_an_id_that_two_tokens_have_is_refused(tmp_path: Path, plain: tuple[Path, int]) -> None:
    """The library counts the vocabulary to number what comes after it; with holes in it, that id may be taken."""
    directory, size = plain
    shutil.copytree(directory, tmp_path / "model")

    def stretch(data: dict[str, Any]) -> None:
        vocab = data["model"]["vocab"]
        last = max(vocab, key=vocab.__getitem__)
        vocab[last] += 5
        vocab["new"] = len(vocab) + 1

    edit(tmp_path / "model" / "tokenizer.json", stretch)
    with pytest.raises(
        VocabularyError, match=r"'new' and the added token '<tool>' both have the id \d+, because the ids"
    ):
        read_vocabulary(tmp_path / "model", size + 16)


def test_added_tokens_of_a_sentencepiece_model(tmp_path: Path) -> None:
    """A token whose id is a piece's renames it; the others follow the pieces."""
    size = sentencepiece(tmp_path, user_defined_symbols=["<unused0>"])
    place = 3
    decoder = {str(place): entry("<|im_start|>", special=True), str(size): entry("<image>")}
    edit(tmp_path / "tokenizer_config.json", lambda data: data.update(added_tokens_decoder=decoder))
    vocabulary = read_vocabulary(tmp_path, size + 2)
    assert (vocabulary.tokens[place], vocabulary.tokens[size]) == ("<|im_start|>", "<image>")
    assert prove(vocabulary, tmp_path).agreeing
