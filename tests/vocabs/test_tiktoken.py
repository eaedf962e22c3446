"""The tokenizer.model of Meta's Llama 3, judged by transformers' conversion of it and by llama.cpp."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp_vocabulary
import pytest
import torch
from command_line import convert, refusal
from gguf import GGUFReader, TokenType
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors, trainers
from transformers.convert_slow_tokenizer import TikTokenConverter, bytes_to_unicode
from vocabs.small_tokenizers import CORPUS, save

from converter.errors import VocabularyError
from converter.vocabs import prove, read_vocabulary
from converter.vocabs.files import read_tokenizer_files
from converter.vocabs.probe import probe_texts
from converter.vocabs.reference import open_reference

RANKS = 700
SIZE = RANKS + 256


def reserved(*numbers: int) -> list[str]:
    return [f"<|reserved_special_token_{number}|>" for number in numbers]


#: Special tokens by ``use_scaled_rope``, as transformers lists those of Llama 3 and those of Llama 3.1 and later.
BEGIN_END, HEADER = ["<|begin_of_text|>", "<|end_of_text|>"], ["<|start_header_id|>", "<|end_header_id|>"]
SPECIAL = {
    False: [*BEGIN_END, *reserved(0, 1, 2, 3), *HEADER, *reserved(4), "<|eot_id|>", *reserved(*range(5, 251))],
    True: [
        *BEGIN_END, *reserved(0, 1), "<|finetune_right_pad_id|>", *reserved(2), *HEADER, "<|eom_id|>", "<|eot_id|>",
        "<|python_tag|>", *reserved(*range(3, 248)),
    ],
}  # fmt: skip


class Theirs(TikTokenConverter):
    """transformers' conversion, with the few lines of the tiktoken library that it calls."""

    @staticmethod
    def load_tiktoken_bpe(path: str) -> dict[bytes, int]:
        pairs = (line.split() for line in Path(path).read_text().splitlines())
        return {base64.b64decode(token): int(rank) for token, rank in pairs}


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """A byte-level BPE trained with Llama 3's expression, its tokens in the order that they were made in."""
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(TikTokenConverter().pattern), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    trainer = trainers.BpeTrainer(
        vocab_size=RANKS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    byte_of = {letter: byte for byte, letter in bytes_to_unicode().items()}
    tokens = [bytes(byte_of[letter] for letter in tokenizer.id_to_token(rank)) for rank in range(RANKS)]
    return [f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens)]


@pytest.fixture
def write(tmp_path: Path, lines: list[str]) -> Callable[..., Path]:
    """``write(**params)``: tokenizer.model, with ``params.json`` beside it."""

    def write(**params: object) -> Path:
        directory = tmp_path / "meta"
        directory.mkdir()
        (directory / "tokenizer.model").write_text("".join(lines))
        (directory / "params.json").write_text(json.dumps({"dim": 256, **params}))
        return directory

    return write


def converted(path: Path, directory: Path, special: list[str]) -> Tokenizer:
    """The files that transformers makes of a checkpoint, as ``convert_llama_weights_to_hf.py`` does."""
    tokenizer = Theirs(str(path), extra_special_tokens=special).converted()
    begin = (special[0], tokenizer.token_to_id(special[0]))
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{special[0]} $A", special_tokens=[begin]),
    ])  # fmt: skip
    save(tokenizer, directory, {"bos_token": special[0], "eos_token": special[1]})
    return tokenizer


@pytest.mark.parametrize("scaled", [False, True])
def test_what_transformers_makes_of_it(write: Callable[..., Path], tmp_path: Path, scaled: bool) -> None:
    directory = write(use_scaled_rope=scaled)
    theirs = converted(directory / "tokenizer.model", tmp_path / "converted", SPECIAL[scaled])
    vocabulary = read_vocabulary(directory, SIZE)
    assert (vocabulary.model, vocabulary.pre) == ("gpt2", "llama-bpe")
    assert list(vocabulary.tokens) == [theirs.id_to_token(number) for number in range(SIZE)]
    assert set(vocabulary.types[:RANKS]) == {TokenType.NORMAL}
    assert set(vocabulary.types[RANKS:]) == {TokenType.CONTROL}
    assert vocabulary.special_ids == {"bos": RANKS, "eos": RANKS + 1}
    assert vocabulary.add_special == {"bos": True, "eos": False}
    assert not vocabulary.chat_templates
    assert vocabulary == read_vocabulary(tmp_path / "converted", SIZE)

    proof = prove(vocabulary, directory)
    assert proof.agreeing
    assert not proof.limits
    texts = probe_texts(SPECIAL[scaled][:16])
    reference = open_reference(read_tokenizer_files(directory))
    for whole in (False, True):
        expected = [encoding.ids for encoding in theirs.encode_batch(texts, add_special_tokens=whole)]
        assert reference.encode(texts, add_special=whole) == expected


@pytest.mark.parametrize("scaled", [False, True])
def test_a_configuration_instead_of_parameters(write: Callable[..., Path], scaled: bool) -> None:
    directory = write()
    (directory / "params.json").unlink()
    rope = {"rope_scaling": {"rope_type": "llama3"}} if scaled else {}
    (directory / "config.json").write_text(json.dumps({"model_type": "llama", **rope}))
    assert list(read_vocabulary(directory, SIZE).tokens[RANKS:]) == SPECIAL[scaled]


def test_a_file_from_windows(write: Callable[..., Path]) -> None:
    directory = write()
    expected = read_vocabulary(directory, SIZE)
    path = directory / "tokenizer.model"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_vocabulary(directory, SIZE) == expected


def checkpoint(directory: Path, params: dict[str, Any]) -> None:
    """A random model of one layer, as Meta's code saves it."""
    torch.manual_seed(1)
    shapes = {
        "tok_embeddings": (SIZE, 256), "norm": (256,), "output": (SIZE, 256),
        "layers.0.attention_norm": (256,), "layers.0.ffn_norm": (256,),
        "layers.0.attention.wq": (256, 256), "layers.0.attention.wk": (128, 256), "layers.0.attention.wv": (128, 256),
        "layers.0.attention.wo": (256, 256), "layers.0.feed_forward.w1": (512, 256),
        "layers.0.feed_forward.w2": (256, 512), "layers.0.feed_forward.w3": (512, 256),
    }  # fmt: skip
    state = {f"{name}.weight": torch.randn(*shape).to(torch.bfloat16) for name, shape in shapes.items()}
    torch.save(state, directory / "consolidated.00.pth")
    sizes = {"dim": 256, "n_layers": 1, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-5, "vocab_size": SIZE}
    (directory / "params.json").write_text(json.dumps({**sizes, "rope_theta": 500000.0, **params}))


def tokenizer_fields(path: Path) -> dict[str, Any]:
    fields = GGUFReader(path).fields
    return {name: field.contents() for name, field in fields.items() if name.startswith("tokenizer.")}


@pytest.mark.parametrize("scaled", [False, True])
def test_conversion(write: Callable[..., Path], tmp_path: Path, scaled: bool) -> None:
    """The file is the one that transformers' tokenizer gives, and llama.cpp stops where Meta's code does."""
    directory, output, other = write(), tmp_path / "meta.gguf", tmp_path / "other.gguf"
    checkpoint(directory, {"use_scaled_rope": True} if scaled else {})
    theirs = converted(directory / "tokenizer.model", tmp_path / "converted", SPECIAL[scaled])
    arguments = ("--model", directory, "--method", "q8_0", "--quiet")
    outcome = convert(*arguments, "--output", output, "--verify", "load")
    assert outcome.code == 0, outcome
    outcome = convert(*arguments, "--output", other, "--tokenizer", tmp_path / "converted")
    assert outcome.code == 0, outcome
    assert tokenizer_fields(output) == tokenizer_fields(other)

    text = "<|start_header_id|>user<|end_header_id|>\n\nWho's there in 12345?<|eot_id|>"
    assert llama_cpp_vocabulary.tokenize(output, [text]) == [theirs.encode(text).ids]
    special = llama_cpp_vocabulary.special_tokens(output)
    assert special.roles["bos"] == theirs.token_to_id("<|begin_of_text|>")
    assert special.roles["eos"] == theirs.token_to_id("<|end_of_text|>")
    assert special.roles["eot"] == theirs.token_to_id("<|eot_id|>")
    stops = ["<|end_of_text|>", "<|eot_id|>", *(["<|eom_id|>"] if scaled else [])]
    assert special.ends == {theirs.token_to_id(text) for text in stops}


def changed(number: int, line: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [*lines[:number], line, *lines[number + 1 :]]


EXPECTED = "a token of at most 1024 bytes in base64 and its rank were expected; fetch the file again"
# fmt: off
DAMAGES = [
    (changed(4, "JQ= 4\n"), f"line 5 is 'JQ= 4'; {EXPECTED}"),
    (changed(4, "J?== 4\n"), f"line 5 is 'J?== 4'; {EXPECTED}"),
    (changed(4, "JQ==\n"), f"line 5 is 'JQ=='; {EXPECTED}"),
    (changed(4, "JQ== four\n"), f"line 5 is 'JQ== four'; {EXPECTED}"),
    (changed(600, f"{'A' * 1368} 600\n"), f"line 601 is '{'A' * 40}'; {EXPECTED}"),
    (lambda lines: [*lines[:-1], lines[-1][:4]], r"line 700 is '....'; " + EXPECTED),
    (changed(600, "IQ== 600\n"), "lines 1 and 601 have the same token, b'!'; fetch the file again"),
    (lambda lines: changed(600, lines[600].replace(" 600", " 599"))(lines),
     "lines 600 and 601 have the same rank, 599; fetch the file again"),
    (lambda lines: lines[:600] + lines[601:], "rank 600 of 699 is missing; fetch the file again"),
    (changed(0, "ISEhISEhISEh 0\n"), "no token for the single byte 0x21; fetch the file again"),
    (changed(4, "J\u00e9== 4\n"), r"byte \d+ is 0xc3; base64 and numbers were expected; fetch the file again"),
    (lambda lines: lines[:650],
     "650 ranks and the 256 special tokens of Llama 3 make 906 tokens, but the embedding has 956 rows; the file is cut "
     "short or belongs to another model: fetch it again, or name the right one with --tokenizer"),
]
# fmt: on


@pytest.mark.parametrize(("change", "message"), DAMAGES)
def test_damaged(
    write: Callable[..., Path], lines: list[str], change: Callable[[list[str]], list[str]], message: str
) -> None:
    path = write() / "tokenizer.model"
    path.write_text("".join(change(lines)), encoding="utf-8")
    with pytest.raises(VocabularyError) as caught:
        read_vocabulary(path.parent, SIZE)
    pattern = message if "\\d" in message or "...." in message else re.escape(message)
    assert re.fullmatch(f"{re.escape(str(path))}: {pattern}", str(caught.value)), caught.value


@pytest.mark.parametrize("config", [None, {"model_type": "kimi_k2"}])
def test_another_model(write: Callable[..., Path], config: dict[str, str] | None) -> None:
    directory = write()
    (directory / "params.json").unlink()
    if config:
        (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(VocabularyError) as caught:
        read_vocabulary(directory, SIZE)
    assert str(caught.value) == (
        f"{directory / 'tokenizer.model'}: tiktoken's file names no special tokens, and there is no params.json or "
        "config.json of a Llama beside it to tell which they are; put the model's there, or a tokenizer.json"
    )


def test_parameters_that_say_nothing(write: Callable[..., Path]) -> None:
    directory = write(use_scaled_rope="yes")
    with pytest.raises(VocabularyError, match="use_scaled_rope is str 'yes'; true or false was expected"):
        read_vocabulary(directory, SIZE)


def test_damaged_on_the_command_line(write: Callable[..., Path], lines: list[str], tmp_path: Path) -> None:
    directory = write()
    checkpoint(directory, {})
    (directory / "tokenizer.model").write_text("".join(lines[:650]))
    message = refusal("--model", directory, "--method", "q8_0", "--output", tmp_path / "x.gguf")
    assert message.startswith(f"{directory / 'tokenizer.model'}: 650 ranks and the 256 special tokens of Llama 3 make")
