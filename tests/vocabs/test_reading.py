"""Tokenizer files to key-values, compared with the gguf package's and llama.cpp's own converter."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from gguf import GGUFReader, SpecialVocab, TokenType
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer
from vocabs.small_tokenizers import SPECIAL, byte_level, edit, sentencepiece

from converter.vocabs import Vocabulary, read_vocabulary
from converter.vocabs.pretokenizers import LLAMA3, QWEN2
from converter.vocabs.vocab_only_gguf import write_vocabulary


def keys(vocabulary: Vocabulary, directory: Path) -> dict[str, object]:
    """The tokenizer's keys as another reader finds them in the file."""
    write_vocabulary(directory / "keys.gguf", vocabulary)
    fields = GGUFReader(directory / "keys.gguf").fields
    return {key: field.contents() for key, field in fields.items() if key.startswith("tokenizer.")}


def test_byte_level_keys(tmp_path: Path) -> None:
    settings = {"add_bos_token": True, "pad_token": {"content": SPECIAL[2]}, "chat_template": "{{ messages }}"}
    size = byte_level(tmp_path, (LLAMA3,), ignore_merges=True, settings=settings)
    source = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    written = keys(read_vocabulary(tmp_path, size + 3), tmp_path)
    reading = SpecialVocab(tmp_path, load_merges=True)
    assert written == {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": [
            *(source.id_to_token(number) for number in range(size)),
            *(f"[PAD{number}]" for number in range(size, size + 3)),
        ],
        "tokenizer.ggml.token_type": [3, 3, 3, *[1] * (size - 4), 4, 5, 5, 5],
        "tokenizer.ggml.merges": reading.merges,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_sep_token": False,
        "tokenizer.chat_template": "{{ messages }}",
    }
    assert reading.special_token_ids == {"bos": 0, "eos": 1, "pad": 2}
    assert reading.add_special_token == {"bos": True, "sep": False}
    assert reading.chat_template == written["tokenizer.chat_template"]


def test_sentencepiece_keys(tmp_path: Path) -> None:
    decoder = {"1": {"content": "<s>", "special": True}, "2": {"content": "</s>", "special": True}}
    settings = {
        "bos_token": "<s>",
        "add_bos_token": True,
        "add_eos_token": False,
        "add_prefix_space": True,
        "added_tokens_decoder": decoder,
    }
    size = sentencepiece(tmp_path, settings=settings)
    (tmp_path / "config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": -1}))
    processor = SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    written = keys(read_vocabulary(tmp_path, size + 2), tmp_path)
    scores = [processor.get_score(number) for number in range(size)]
    assert written == {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.ggml.tokens": [
            *(processor.id_to_piece(number) for number in range(size)),
            *(f"[PAD{number}]" for number in range(size, size + 2)),
        ],
        "tokenizer.ggml.scores": [scores[0], -1000.0, -1000.0, *scores[3:], -10000.0, -10000.0],
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * (size - 259), 5, 5],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
    }


@pytest.mark.parametrize("post_processor", ["bos", "byte_level"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"add_bos_token": False},
        {"unk_token": SPECIAL[2], "mask_token": SPECIAL[1]},
        {"eos_token": {"content": SPECIAL[2], "special": True}, "sep_token": SPECIAL[1], "cls_token": SPECIAL[0]},
        {"pad_token": "<not there>", "eos_token": None},
    ],
)
def test_special_ids_are_those_of_the_gguf_package(tmp_path: Path, post_processor: str, settings: dict) -> None:
    size = byte_level(tmp_path, (QWEN2,), post_processor=post_processor, settings=settings)
    config = {"eos_token_id": [1, 2], "text_config": {"pad_token_id": 2, "sep_token_id": 10**6}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    expected = SpecialVocab(tmp_path, n_vocab=size)
    vocabulary = read_vocabulary(tmp_path, size)
    # The gguf package leaves a list of end tokens unread; without any end llama.cpp would take token 11.
    assert vocabulary.special_ids == {"eos": 1} | expected.special_token_ids
    # The tokenizer's own word on what it adds; the gguf package lets tokenizer_config.json overrule it.
    begins = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("x").ids[0] == 0
    assert vocabulary.add_special["bos"] is begins is (post_processor == "bos")


def test_token_after_the_text_becomes_eos_and_the_old_one_end_of_turn(tmp_path: Path) -> None:
    def end_with_another(data: dict) -> None:
        begin, end = ({"SpecialToken": {"id": text, "type_id": 0}} for text in (SPECIAL[0], SPECIAL[2]))
        texts = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
        data["post_processor"]["single"] = [begin, texts[0], end]
        data["post_processor"]["pair"] = [begin, texts[0], end, texts[1], end]
        data["post_processor"]["special_tokens"][SPECIAL[2]] = {"id": SPECIAL[2], "ids": [2], "tokens": [SPECIAL[2]]}

    size = byte_level(tmp_path, (QWEN2,))
    edit(tmp_path / "tokenizer.json", end_with_another)
    vocabulary = read_vocabulary(tmp_path, size)
    expected = SpecialVocab(tmp_path)
    assert vocabulary.special_ids == expected.special_token_ids == {"bos": 0, "eos": 2, "eot": 1}
    assert vocabulary.add_special == expected.add_special_token == {"bos": True, "eos": True, "sep": False}


def test_code_llama_tokens_for_infilling(tmp_path: Path) -> None:
    size = sentencepiece(tmp_path)
    places = {"▁<PRE>": size, "▁<SUF>": size + 1, "▁<MID>": size + 2, "▁<EOT>": size + 3}
    decoder = {str(number): {"content": text, "special": True} for text, number in places.items()}
    edit(tmp_path / "tokenizer_config.json", lambda data: data.update(added_tokens_decoder=decoder))
    ids = {"fim_pre": size, "fim_suf": size + 1, "fim_mid": size + 2, "eot": size + 3}
    assert read_vocabulary(tmp_path, 32016).special_ids == ids


def test_added_token_without_a_row_is_left_out(tmp_path: Path) -> None:
    size = byte_level(tmp_path, (QWEN2,), vocab_size=300)
    vocabulary = read_vocabulary(tmp_path, size - 1)
    assert vocabulary.dropped == ("<tool>",)
    assert len(vocabulary.tokens) == len(vocabulary.types) == size - 1


def test_types_of_added_tokens(tmp_path: Path) -> None:
    size = byte_level(tmp_path, (QWEN2,), vocab_size=300)

    def add(data: dict) -> None:
        marks = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
        for number, text in enumerate(["<|looks_special|>", "<pad>", "a▁b"]):
            data["added_tokens"].append({"id": size + number, "content": text, **marks})

    edit(tmp_path / "tokenizer.json", add)
    vocabulary = read_vocabulary(tmp_path, size + 3)
    assert vocabulary.types[size:] == [TokenType.CONTROL, TokenType.CONTROL, TokenType.USER_DEFINED]
    assert vocabulary.tokens[-1] == "a b"


def test_merges_in_both_forms_and_with_spaces(tmp_path: Path) -> None:
    size = byte_level(tmp_path, (QWEN2,), vocab_size=300)
    pairs = read_vocabulary(tmp_path, size)

    def as_text(data: dict) -> None:
        data["model"]["merges"] = [" ".join(merge) for merge in data["model"]["merges"]]

    edit(tmp_path / "tokenizer.json", as_text)
    texts = read_vocabulary(tmp_path, size)
    assert dataclasses.replace(pairs, files=None) == dataclasses.replace(texts, files=None)
    edit(tmp_path / "tokenizer.json", lambda data: data["model"].update(merges=[["a b", "c"], ["d", "e"]]))
    assert read_vocabulary(tmp_path, size).merges == SpecialVocab(tmp_path, load_merges=True).merges == ["aĠb c", "d e"]
