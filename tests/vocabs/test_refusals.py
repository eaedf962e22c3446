"""Tokenizer files that are missing, damaged or made to harm: one line that names the file, and nothing else."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor
from vocabs.other_kinds import tekken, unigram, wordpiece
from vocabs.small_tokenizers import byte_level, edit, fast_sentencepiece, sentencepiece

from converter.errors import VocabularyError
from converter.vocabs import read_vocabulary
from converter.vocabs.model_proto import read_model_proto
from converter.vocabs.pretokenizers import QWEN2
from converter.vocabs.tokenizer_kinds import read_files


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], int]:
    """Files of a byte-level tokenizer, and its size."""
    directory = tmp_path_factory.mktemp("small")
    size = byte_level(directory, (QWEN2,), vocab_size=300)
    return {path.name: path.read_bytes() for path in directory.iterdir()}, size


@pytest.fixture
def directory(tmp_path: Path, small: tuple[dict[str, bytes], int]) -> Path:
    for name, data in small[0].items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def refusal(directory: Path, vocab_size: int = 1000, **options: str) -> str:
    with pytest.raises(VocabularyError) as caught:
        read_vocabulary(directory, vocab_size, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{directory}{os.sep}", "").replace(str(directory), "DIR")


def test_no_tokenizer(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        "DIR: no tokenizer.json, tekken.json, tokenizer.model, vocab.json or vocab.txt; fetch the tokenizer's files, "
        "or name the directory they are in with --tokenizer"
    )


def test_half_downloaded(directory: Path) -> None:
    path = directory / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:2000])
    message = refusal(directory)
    assert message.startswith("tokenizer.json: is not valid JSON: ")
    assert message.endswith("; download it again")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("tokenizer.json", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        ("tokenizer.model", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        ("tokenizer.json", b"[]", "holds [], expected a JSON object"),
        ("tokenizer_config.json", b"\xff\xfe{}", "is not valid JSON: 'utf-8' codec can't decode byte 0xff"),
        ("tokenizer_config.json", b"[" * 100_000, "is not valid JSON: nested too deeply"),
        ("added_tokens.json", b"3", "holds 3, expected a JSON object"),
    ],
)
def test_not_the_file_it_should_be(directory: Path, name: str, data: bytes, message: str) -> None:
    if name == "tokenizer.model":
        (directory / "tokenizer.json").unlink()
    (directory / name).write_bytes(data)
    assert refusal(directory).startswith(f"{name}: {message}" if message[:2] != "is" else f"{name}")
    assert message in refusal(directory)


def test_a_directory_where_a_file_belongs(directory: Path) -> None:
    (directory / "tokenizer_config.json").unlink()
    (directory / "tokenizer_config.json").mkdir()
    assert refusal(directory) == "tokenizer_config.json: cannot be read (Is a directory)"


def in_model(**changes: Any) -> Callable[[dict], None]:
    return lambda data: data["model"].update(changes)


def in_first_added(**changes: Any) -> Callable[[dict], None]:
    return lambda data: data["added_tokens"][0].update(changes)


# fmt: off
DAMAGES = [
    (in_model(type="Unigram"), "the tokenizer's model is 'Unigram'; byte-level text needs BPE"),
    (in_model(vocab={}), "model.vocab is empty; the download may be incomplete, fetch it again"),
    (in_model(vocab=[]), "model.vocab is list '[]'; an object was expected; fetch the file again"),
    (in_model(vocab={"a": True}), "the id of token 'a' is True; a number was expected"),
    (in_model(vocab={"a": -1}), "the id of token 'a' is -1; a number was expected"),
    (in_model(vocab={"a": 5, "b": 5}), "two tokens of model.vocab have the same id; fetch the file again"),
    (in_model(vocab={"\ud800": 5}), "a token is not valid Unicode (surrogates not allowed); fetch it again"),
    (in_model(vocab={"[PAD7]": 5}), "tokens 5 and 7 have the same text '[PAD7]'; llama.cpp needs every "
                                    "token's text to be different; rename one of them"),
    (in_model(vocab={"a\0": 5}), "token 5 is 'a\\x00'; llama.cpp ends a text at a zero character; rename the token"),
    (in_model(merges=["ab"]), "model.merges[0] is 'ab'; two pieces of text were expected"),
    (in_model(merges=[["a", 1]]), "model.merges[0] is \"['a', 1]\"; two pieces of text were expected"),
    (in_model(merges=None), "model.merges is NoneType 'None'; a list was expected; fetch the file again"),
    (in_model(end_of_word_suffix="</w>"),
     "model.end_of_word_suffix is '</w>'; llama.cpp's BPE knows no such thing"),
    (in_first_added(id=-4), "added_tokens[0].id is -4; a token's id was expected; fetch the file again"),
    (in_first_added(id="x"), "added_tokens[0].id is str 'x'; an integer was expected; fetch the file again"),
    (in_first_added(content=None),
     "added_tokens[0].content is NoneType 'None'; a string was expected; fetch the file again"),
]
# fmt: on


@pytest.mark.parametrize(("change", "message"), DAMAGES)
def test_damaged_tokenizer_json(directory: Path, change: Callable[[dict], None], message: str) -> None:
    edit(directory / "tokenizer.json", change)
    assert refusal(directory) == f"tokenizer.json: {message}"


def test_kind_without_a_counterpart(directory: Path) -> None:
    edit(directory / "tokenizer.json", lambda data: data.update(pre_tokenizer={"type": "Whitespace"}))
    edit(directory / "tokenizer.json", in_model(type="WordLevel"))
    assert refusal(directory) == (
        "tokenizer.json: a WordLevel tokenizer that is neither byte-level nor of sentencepiece's kind (byte_fallback); "
        "llama.cpp has no tokenizer like it"
    )


def test_more_tokens_than_rows(directory: Path, small: tuple[dict[str, bytes], int], tmp_path: Path) -> None:
    message = refusal(directory, 250)
    assert re.fullmatch(
        r"tokenizer.json: token '.+' has id 250, but the embedding has 250 rows; the tokenizer belongs to another "
        r"model: name the right one with --tokenizer",
        message,
    )
    size = sentencepiece(tmp_path / "pieces")
    assert refusal(tmp_path / "pieces", 700) == (
        f"tokenizer.model: {size} pieces, but the embedding has 700 rows; the tokenizer belongs to another model: name "
        "the right one with --tokenizer"
    )


def test_unknown_name(directory: Path) -> None:
    assert refusal(directory, pre="lama-bpe") == (
        "--pre lama-bpe: llama.cpp has no pre-tokenizer of that name; did you mean 'llama-bpe'?"
    )
    assert "known are a.x-4.0, afmoe, " in refusal(directory, pre="#")


def test_models_of_whole_words(tmp_path: Path) -> None:
    sentencepiece(tmp_path, model_type="word", byte_fallback=False, vocab_size=300)
    assert refusal(tmp_path, 2000) == (
        "tokenizer.model: a Word model; llama.cpp runs BPE and Unigram models only, so it cannot be converted"
    )


def test_model_proto_reads_what_the_library_reads(tmp_path: Path) -> None:
    size = sentencepiece(tmp_path, user_defined_symbols=["<tool>"], control_symbols=["[INST]"], add_dummy_prefix=False)
    processor = SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    proto = read_model_proto(tmp_path / "tokenizer.model")
    assert (proto.model_type, proto.add_dummy_prefix) == ("BPE", False)
    texts, scores, kinds = zip(*proto.pieces, strict=True)
    assert list(texts) == [processor.id_to_piece(number) for number in range(size)]
    assert list(scores) == [processor.get_score(number) for number in range(size)]
    for kind, holds in ((2, processor.is_unknown), (3, processor.is_control), (6, processor.is_byte)):
        assert [found == kind for found in kinds] == [holds(number) for number in range(size)]
    assert texts[kinds.index(4)] == "<tool>"


def test_model_cut_anywhere_among_its_pieces_is_refused(tmp_path: Path) -> None:
    """What says which type of model it is comes after the pieces."""
    sentencepiece(tmp_path)
    data = (tmp_path / "tokenizer.model").read_bytes()
    for length in range(0, len(data) * 9 // 10, 97):
        (tmp_path / "tokenizer.model").write_bytes(data[:length])
        assert refusal(tmp_path) == "tokenizer.model: not a sentencepiece model, or cut short; fetch it again"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**12) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    found = []
    for make in (byte_level, sentencepiece, fast_sentencepiece, wordpiece, unigram, tekken):
        directory = tmp_path_factory.mktemp(make.__name__)
        make(directory, (QWEN2,)) if make is byte_level else make(directory)
        edit(directory / "tokenizer_config.json", lambda data: data.update(added_tokens_decoder={}, chat_template=[]))
        found += [(path, path.read_text()) for path in directory.glob("*.json")]
    return found


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_is_read_or_refused(originals: list[tuple[Path, str]], data: st.DataObject) -> None:
    path, text = originals[data.draw(st.sampled_from(range(len(originals))))]
    tree = json.loads(text)
    node: Any = tree
    while True:
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
        child = node[key]
        if not isinstance(child, dict | list) or not child or data.draw(st.booleans()):
            break
        node = child
    node[key] = data.draw(JSON)
    path.write_text(json.dumps(tree))
    try:
        vocabulary = read_files(path.parent, 2000)
        assert len(vocabulary.tokens) == len(vocabulary.types) == 2000
        assert vocabulary.key_values()
    except VocabularyError as error:
        assert "\n" not in str(error)
    finally:
        path.write_text(text)
