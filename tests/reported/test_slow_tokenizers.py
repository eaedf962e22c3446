"""Tokenizers without a tokenizer.json: the vocabulary is the one transformers builds of the same files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoint_builder import write_model
from command_line import convert
from gguf import GGUFReader, TokenType
from transformers import AutoTokenizer
from vocabs.other_kinds import t5_sentencepiece, wordpiece
from vocabs.small_tokenizers import byte_level, edit

from converter.errors import VocabularyError
from converter.vocabs import prove, read_vocabulary
from converter.vocabs.slow_files import MAX_SIZE
from converter.vocabs.structure import GPT2, canonical_regex

Files = dict[str, Any]


def pairs(directory: Path, *, line_end: str = "\n", mark: str = "") -> int:
    """vocab.json and merges.txt of a byte-level BPE, and nothing else. Returns how many tokens they have."""
    byte_level(directory, (GPT2,), vocab_size=400)
    model = json.loads((directory / "tokenizer.json").read_text())["model"]
    for path in directory.iterdir():
        path.unlink()
    merges = ["#version: 0.2", *(" ".join(merge) for merge in model["merges"]), ""]
    (directory / "vocab.json").write_text(mark + json.dumps(model["vocab"]), encoding="utf-8")
    (directory / "merges.txt").write_bytes(line_end.join([mark + merges[0], *merges[1:]]).encode())
    return len(model["vocab"])


def words(directory: Path, **normalizer: bool) -> int:
    """vocab.txt of a WordPiece vocabulary, and nothing else. Returns how many tokens it has."""
    size = wordpiece(directory, **normalizer)
    vocab = json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"]
    for path in directory.iterdir():
        path.unlink()
    (directory / "vocab.txt").write_text("".join(f"{text}\n" for text in sorted(vocab, key=vocab.__getitem__)))
    return size


def settle(directory: Path, files: Files) -> None:
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content), encoding="utf-8")


def check(directory: Path, rows: int, *, limits: tuple[str, ...] = ()) -> None:
    """Hold the vocabulary against ``AutoTokenizer``'s: ids, texts, special tokens, and by the proof text itself."""
    source = AutoTokenizer.from_pretrained(directory)
    vocabulary = read_vocabulary(directory, rows)
    assert vocabulary.files is not None
    added = source.backend_tokenizer.get_added_tokens_decoder()
    for token_id, token in added.items():
        if token_id < rows:
            assert vocabulary.tokens[token_id] == token.content
            assert vocabulary.types[token_id] in (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
    for role in ("bos", "eos", "unk", "pad", "mask"):
        expected = getattr(source, f"{role}_token_id")
        if expected is not None and expected < rows:
            assert vocabulary.special_ids[role] == expected, role
    if vocabulary.model == "gpt2":
        for text, token_id in source.get_vocab().items():
            assert token_id >= rows or vocabulary.tokens[token_id] == text
    proof = prove(vocabulary, directory)
    assert proof.agreeing
    for limit in proof.limits:
        assert any(part in limit for part in limits), limit
    # The proof's answers are this tokenizer's, and not another's.
    assert proof.answers is not None
    ours = [ids for ids, (text, whole) in zip(proof.answers.source_ids, proof.asked, strict=True) if whole]
    texts = [text for text, whole in proof.asked if whole]
    assert ours == source(texts).input_ids


BYTE_LEVEL: dict[str, Files] = {
    "gpt2": {"tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "unk_token": "<|end_of_text|>"}},
    "by the model's type": {"config.json": {"model_type": "gpt2"}},
    "qwen2": {"tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer"}, "config.json": {"model_type": "qwen2"}},
    "gpt-neox": {"tokenizer_config.json": {"tokenizer_class": "GPTNeoXTokenizer"}},
    "codegen": {"tokenizer_config.json": {"tokenizer_class": "CodeGenTokenizer"}, "config.json": {"model_type": "phi"}},
    "roberta": {"tokenizer_config.json": {"tokenizer_class": "RobertaTokenizer"}},
    "bart": {"config.json": {"model_type": "bart"}},
    "added_tokens.json": {
        "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|user|>"},
        "added_tokens.json": {"<|bot|>": 401, "<|user|>": 400},
    },
    "added_tokens_decoder": {
        "tokenizer_config.json": {
            "tokenizer_class": "GPT2Tokenizer",
            "added_tokens_decoder": {
                "400": {"content": "<|user|>", "special": True, "rstrip": True},
                "401": {"content": "tool", "special": False, "normalized": False},
            },
        },
    },
    "special_tokens_map.json": {
        "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|old|>"},
        "special_tokens_map.json": {"eos_token": {"content": "<|eot_id|>", "lstrip": False, "rstrip": False}},
    },
    "adds both": {
        "tokenizer_config.json": {
            "tokenizer_class": "GPT2Tokenizer",
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|end_of_text|>",
            "add_bos_token": True,
            "add_eos_token": True,
        }
    },
}


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_vocab_json_and_merges(tmp_path: Path, name: str) -> None:
    size = pairs(tmp_path)
    settle(tmp_path, BYTE_LEVEL[name])
    check(tmp_path, size + 8, limits=("NFC", "spaces around", "for a special token, the source for text"))


def test_files_of_windows_and_byte_order_marks(tmp_path: Path) -> None:
    size = pairs(tmp_path / "plain")
    settle(tmp_path / "plain", BYTE_LEVEL["gpt2"])
    pairs(tmp_path / "marked", line_end="\r\n", mark="\ufeff")
    settle(tmp_path / "marked", BYTE_LEVEL["gpt2"])
    settings = tmp_path / "marked" / "tokenizer_config.json"
    settings.write_text("\ufeff" + settings.read_text().replace(",", ",\r\n"), encoding="utf-8")
    plain, marked = (read_vocabulary(tmp_path / name, size) for name in ("plain", "marked"))
    assert plain.key_values() == marked.key_values()
    check(tmp_path / "plain", size, limits=("for a special token, the source for text",))
    assert prove(marked, tmp_path / "marked").agreeing


@pytest.mark.parametrize(
    "options",
    [{}, {"do_lower_case": False}, {"strip_accents": False}, {"do_lower_case": False, "strip_accents": True}],
)
@pytest.mark.parametrize("kind", ["BertTokenizer", "DistilBertTokenizer", None])
def test_vocab_txt(tmp_path: Path, options: dict[str, bool], kind: str | None) -> None:
    size = words(tmp_path, lowercase=options.get("do_lower_case", True))
    named = {"tokenizer_class": kind} if kind else {}
    settle(tmp_path, {"tokenizer_config.json": {**named, **options}, "config.json": {"model_type": "bert"}})
    # The length of words and rare characters are told by tests of WordPiece itself.
    check(tmp_path, size, limits=("llama.cpp",))
    lowercase = options.get("do_lower_case", True)
    normalizer = read_vocabulary(tmp_path, size).normalizer
    assert normalizer == {"lowercase": lowercase, "strip_accents": options.get("strip_accents", lowercase)}


def test_chinese_characters_as_words_are_named(tmp_path: Path) -> None:
    size = words(tmp_path)
    settle(
        tmp_path,
        {"tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "tokenize_chinese_chars": False}},
    )
    with pytest.raises(VocabularyError, match=r"vocab\.txt: llama\.cpp takes every Chinese .*\(handle_chinese_chars\)"):
        prove(read_vocabulary(tmp_path, size), tmp_path)


@pytest.mark.parametrize(
    ("file", "settings", "rows"),
    [
        ("spiece.model", {"tokenizer_class": "T5Tokenizer"}, 100),
        ("tokenizer.model", {"tokenizer_class": "T5Tokenizer", "extra_ids": 5}, 8),
        ("sentencepiece.bpe.model", {"tokenizer_class": "XLMRobertaTokenizer"}, 4),
        ("sentencepiece.bpe.model", {"tokenizer_class": "CamembertTokenizer"}, 8),
    ],
)
def test_unigram_models(tmp_path: Path, file: str, settings: dict[str, Any], rows: int) -> None:
    roberta = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1} if "bpe" in file else {}
    size = t5_sentencepiece(tmp_path, **roberta)
    (tmp_path / "tokenizer.model").rename(tmp_path / file)
    settle(tmp_path, {"tokenizer_config.json": settings})
    check(tmp_path, size + rows, limits=("sentencepiece does", "double precision", "spaces around"))


def test_steps_are_those_of_the_class(tmp_path: Path) -> None:
    """The files don't say how text is split; Qwen's class does."""
    size = pairs(tmp_path)
    settle(tmp_path, BYTE_LEVEL["qwen2"])
    splits = AutoTokenizer.from_pretrained(tmp_path).backend_tokenizer.to_str()
    pattern = json.loads(splits)["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    assert canonical_regex(pattern) != GPT2
    assert read_vocabulary(tmp_path, size).pre == "qwen2"


def test_a_whole_conversion(tmp_path: Path) -> None:
    """The proof, the file and its verification; the full one runs the source's tokenizer in transformers."""
    size = pairs(tmp_path / "model", line_end="\r\n")
    files = {**BYTE_LEVEL["gpt2"], "added_tokens.json": {"<|user|>": size, "<|bot|>": size + 1}}
    write_model(tmp_path / "weights", "gpt2", vocab_size=size + 2)
    for path in (tmp_path / "weights").iterdir():
        if not path.name.startswith("token"):
            path.rename(tmp_path / "model" / path.name)
    settle(tmp_path / "model", files)
    output = tmp_path / "x.gguf"
    run = ("--model", tmp_path / "model", "--method", "f32", "--output", output, "--verify", "full", "--no-catalogue")
    outcome = convert(*run)
    assert outcome.code == 0, outcome
    assert "faithful over" in outcome.out
    tokens = GGUFReader(output).fields["tokenizer.ggml.tokens"].contents()
    assert tokens[-2:] == ["<|user|>", "<|bot|>"]


def damaged(name: str, content: bytes | None) -> Callable[[Path], object]:
    """A change of one file; None removes it."""
    return lambda directory: (directory / name).unlink() if content is None else (directory / name).write_bytes(content)


def huge(directory: Path) -> None:
    """A file that is larger than any vocabulary, without taking room on the disk."""
    with (directory / "merges.txt").open("r+b") as file:
        file.truncate(MAX_SIZE + 1)


def vocab_with(**tokens: Any) -> Callable[[Path], object]:
    return lambda directory: edit(directory / "vocab.json", lambda data: data.update(tokens))


# fmt: off
PAIR_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no merges": (damaged("merges.txt", None), "merges.txt: missing; only the other half of the vocabulary is there"),
    "huge": (huge, f"merges.txt: {MAX_SIZE + 1} bytes; a tokenizer's file has {MAX_SIZE} at most"),
    "no UTF-8": (damaged("merges.txt", b"a \xff\n"), "merges.txt: not UTF-8 text (invalid start byte at byte 2)"),
    "LFS": (damaged("merges.txt", b"version https://git-lfs.github.com/spec/v1\n"), "merges.txt: is a Git LFS pointer"),
    "one half": (damaged("merges.txt", b"#version: 0.2\nab\n"), "merges.txt: line 2 is 'ab'; two pieces of text"),
    "three": (damaged("merges.txt", b"a b c\n"), "merges.txt: line 1 is 'a b c'; two pieces of text"),
    "an empty half": (damaged("merges.txt", b"a \n"), "merges.txt: line 1 is 'a '; two pieces of text"),
    "strange merges": (damaged("merges.txt", b"Q Q\n"), "merges.txt: line 1 needs the token 'QQ', which vocab."),
    "empty": (damaged("vocab.json", b"{}"), "vocab.json: holds no tokens"),
    "a list": (damaged("vocab.json", b"[]"), "vocab.json: holds [], expected a JSON object"),
    "cut": (damaged("vocab.json", b'{"a": 1'), "vocab.json: is not valid JSON"),
    "an id twice": (vocab_with(zz=0), "vocab.json: '<|begin_of_text|>' and 'zz' have the same id, 0"),
    "negative": (vocab_with(zz=-1), "vocab.json: 'zz' is -1; a token's id was expected"),
    "too large": (vocab_with(zz=1 << 40), f"vocab.json: 'zz' is {1 << 40}; a token's id was expected"),
    "a fraction": (vocab_with(zz=1.5), "vocab.json: 'zz' is float '1.5'; an integer was expected"),
    "a flag": (vocab_with(zz=True), "vocab.json: 'zz' is bool 'True'; an integer was expected"),
}
WORD_DAMAGES: dict[str, tuple[bytes, str]] = {
    "empty": (b"\n\n", "vocab.txt: holds no tokens"),
    "twice": (b"[PAD]\na\n[UNK]\na\n", "vocab.txt: lines 2 and 4 are both 'a'"),
    "no UTF-8": (b"[PAD]\n\xe4\n", "vocab.txt: not UTF-8 text (invalid continuation byte at byte 6)"),
}
# fmt: on


def one_line(directory: Path, rows: int = 500) -> str:
    with pytest.raises(VocabularyError) as stopped:
        read_vocabulary(directory, rows)
    message = str(stopped.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", PAIR_DAMAGES)
def test_damaged_pairs(tmp_path: Path, name: str) -> None:
    pairs(tmp_path)
    settle(tmp_path, BYTE_LEVEL["gpt2"])
    change, expected = PAIR_DAMAGES[name]
    change(tmp_path)
    assert one_line(tmp_path).startswith(f"{tmp_path}/{expected}")


@pytest.mark.parametrize("name", WORD_DAMAGES)
def test_damaged_words(tmp_path: Path, name: str) -> None:
    content, expected = WORD_DAMAGES[name]
    (tmp_path / "vocab.txt").write_bytes(content)
    settle(tmp_path, {"tokenizer_config.json": {"tokenizer_class": "BertTokenizer"}})
    assert one_line(tmp_path).startswith(f"{tmp_path}/{expected}")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, "tokenizer_class None with model_type None names none that reads this file"),
        ({"config.json": {"model_type": "llama"}}, "tokenizer_class None with model_type 'llama' names none"),
        ({"tokenizer_config.json": {"tokenizer_class": "NoSuchTokenizer"}}, "tokenizer_class 'NoSuchTokenizer' with"),
        (
            {
                "tokenizer_config.json": {
                    "tokenizer_class": "QWenTokenizer",
                    "auto_map": {"AutoTokenizer": ["x.Y", None]},
                }
            },
            "the tokenizer is Python code of the model's own ('auto_map' in tokenizer_config.json), which is not run",
        ),
        (
            {"tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": {"x": "y"}}},
            "transformers cannot build the tokenizer of these files (",
        ),
    ],
)
def test_what_no_class_reads(tmp_path: Path, files: Files, expected: str) -> None:
    pairs(tmp_path)
    settle(tmp_path, files)
    message = one_line(tmp_path)
    assert message.startswith(f"{tmp_path / 'vocab.json'}: ")
    assert expected in message


def test_no_code_of_the_model_runs(tmp_path: Path) -> None:
    pairs(tmp_path)
    (tmp_path / "tokenization_x.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Y: pass\n")
    auto_map = {"AutoTokenizer": ["tokenization_x.Y", None]}
    settle(tmp_path, {"config.json": {"model_type": "x", "auto_map": auto_map}, **BYTE_LEVEL["gpt2"]})
    read_vocabulary(tmp_path, 500)
    settle(tmp_path, {"tokenizer_config.json": {"auto_map": auto_map}})
    one_line(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_more_tokens_than_rows(tmp_path: Path) -> None:
    size = pairs(tmp_path)
    settle(tmp_path, BYTE_LEVEL["gpt2"])
    message = one_line(tmp_path, size - 1)
    assert message.startswith(f"{tmp_path / 'vocab.json'}: token ")
    assert "belongs to another model" in message
