"""What a finished file says of its tokenizer beside tokens: held against the source's files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoint_builder import write_model
from command_line import convert
from gguf import GGUFReader, GGUFWriter
from vocabs.small_tokenizers import SPECIAL, byte_level, edit

from converter.errors import VocabularyError
from converter.vocabs import Vocabulary, prove, prove_file, read_vocabulary
from converter.vocabs.pretokenizers import QWEN2
from converter.vocabs.vocab_only_gguf import write_vocabulary

Change = Callable[[Vocabulary], Vocabulary]


def replaced(field: str, **values: object) -> Change:
    """A vocabulary with other entries of one of its mappings; None takes one away."""

    def change(vocabulary: Vocabulary) -> Vocabulary:
        entries = {**getattr(vocabulary, field), **values}
        return dataclasses.replace(
            vocabulary, **{field: {name: value for name, value in entries.items() if value is not None}}
        )

    return change


def last_type(vocabulary: Vocabulary) -> Vocabulary:
    return dataclasses.replace(vocabulary, types=[*vocabulary.types[:-1], 3])


FAULTS: dict[str, tuple[Change, str, bool]] = {
    "template": (
        replaced("chat_templates", default="{{ old }}"),
        "tokenizer.chat_template is '{{ old }}' in the file and '{{ new }}' for the source",
        True,
    ),
    "no template": (
        replaced("chat_templates", default=None),
        "has no tokenizer.chat_template, which is '{{ new }}' for the source",
        True,
    ),
    "named template": (
        replaced("chat_templates", rag="x"),
        "tokenizer.chat_template.rag is 'x' in the file and 'r' for the source",
        True,
    ),
    "id": (
        replaced("special_ids", pad=1),
        "padding_token_id is 1 in the file and 2 for the source",
        True,
    ),
    "no end": (replaced("special_ids", eos=None), "has no tokenizer.ggml.eos_token_id, which is 1", True),
    "no padding": (replaced("special_ids", pad=None), "has no tokenizer.ggml.padding_token_id, which is 2", False),
    "flag": (
        replaced("add_special", bos=False),
        "tokenizer.ggml.add_bos_token is False in the file and True for the source",
        True,
    ),
    "type": (last_type, "tokenizer.ggml.token_type is 3 in the file at 300 and 4 for the source", False),
}


@pytest.fixture
def source(tmp_path: Path) -> tuple[Path, int]:
    size = byte_level(tmp_path, (QWEN2,), vocab_size=300, settings={"pad_token": SPECIAL[2]})
    (tmp_path / "chat_template.jinja").write_text("{{ new }}")
    edit(tmp_path / "tokenizer_config.json", lambda data: data.update(chat_template="{{ old }}"))
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("r")
    return tmp_path, size


@pytest.mark.parametrize("name", FAULTS)
def test_a_key_that_differs_is_named(source: tuple[Path, int], name: str) -> None:
    directory, size = source
    change, message, in_any_file = FAULTS[name]
    vocabulary = read_vocabulary(directory, size)
    file = directory / "x.gguf"
    write_vocabulary(file, vocabulary)
    proof = prove(vocabulary, directory)
    proof.check_written(file)
    assert prove_file(file, directory).agreeing

    write_vocabulary(file, change(vocabulary))
    with pytest.raises(VocabularyError) as refusal:
        proof.check_written(file)
    assert str(refusal.value) == f"{file}: {message}; convert the model again" or message in str(refusal.value)
    if in_any_file:
        with pytest.raises(VocabularyError, match="for the source"):
            prove_file(file, directory)
    else:  # other tools write these otherwise; what follows from them is compared as tokens
        prove_file(file, directory)


def test_what_the_user_changed_is_no_difference(source: tuple[Path, int]) -> None:
    directory, size = source
    vocabulary = read_vocabulary(directory, size)
    file, key = directory / "x.gguf", "tokenizer.chat_template"
    write_vocabulary(file, replaced("chat_templates", default="mine")(vocabulary))
    prove(vocabulary, directory).check_written(file, {key})
    assert prove_file(file, directory, changed={key}).agreeing


def test_a_file_of_another_tool(source: tuple[Path, int]) -> None:
    """The gguf package's writer, with the keys that llama.cpp's converter writes, other names for padding included."""
    directory, size = source
    vocabulary = read_vocabulary(directory, size + 4)
    file = directory / "other.gguf"
    writer = GGUFWriter(file, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*vocabulary.tokens[:size], *(f"<unused_{number}>" for number in range(4))])
    writer.add_token_types(list(vocabulary.types))
    writer.add_token_merges(list(vocabulary.merges or ()))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_chat_template([{"name": "default", "template": "{{ new }}"}, {"name": "rag", "template": "r"}])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert prove_file(file, directory).agreeing


def test_a_newer_template_beside_an_older_one_is_written(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "llama")
    (model / "chat_template.jinja").write_text("{{ new }}")
    edit(model / "tokenizer_config.json", lambda data: data.update(chat_template="{{ old }}"))
    output = tmp_path / "x.gguf"
    assert convert("--model", model, "--method", "q8_0", "--output", output, "--no-catalogue").code == 0
    assert GGUFReader(output).fields["tokenizer.chat_template"].contents() == "{{ new }}"
    assert json.loads((model / "tokenizer_config.json").read_text())["chat_template"] == "{{ old }}"


@pytest.mark.parametrize("name", ["", "general.name=str:Another"])
def test_a_key_that_the_user_overrides_is_not_held_against_the_file(tmp_path: Path, name: str) -> None:
    """With the proof at hand, and with a name that has none, so that the source is asked again."""
    model, output = write_model(tmp_path / "model", "llama"), tmp_path / "x.gguf"
    (model / "chat_template.jinja").write_text("{{ new }}")
    overrides = ["tokenizer.chat_template=str:mine", *filter(None, [name])]
    options = [text for override in overrides for text in ("--override-kv", override)]
    outcome = convert("--model", model, "--method", "q8_0", "--output", output, "--no-catalogue", *options)
    assert outcome.code == 0, outcome
    assert GGUFReader(output).fields["tokenizer.chat_template"].contents() == "mine"
