"""Chat templates, as AutoTokenizer finds them in the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader
from transformers import AutoTokenizer
from vocabs.small_tokenizers import byte_level, edit

from converter.errors import VocabularyError
from converter.vocabs import read_vocabulary
from converter.vocabs.pretokenizers import QWEN2
from converter.vocabs.vocab_only_gguf import write_vocabulary

NAMED = [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]


def put(directory: Path, files: dict[str, Any]) -> None:
    """Templates by the file they lie in; of tokenizer_config.json, the value of its field."""
    for name, content in files.items():
        path = directory / name
        if name == "tokenizer_config.json":
            edit(path, lambda data, content=content: data.update(chat_template=content))
            continue
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode())


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config.json": "old", "chat_template.jinja": "new {{ é }}"},
        {"chat_template.jinja": "main", "additional_chat_templates/tool use.jinja": "tools"},
        {"tokenizer_config.json": NAMED},
        {"tokenizer_config.json": {"default": "d", "tool_use": "t"}},
        {"tokenizer_config.json": NAMED, "chat_template.jinja": "wins"},
        {"tokenizer_config.json": "old", "additional_chat_templates/rag.jinja": "only one"},
        {"chat_template.jinja": "main", "additional_chat_templates/default.jinja": "other"},
        {"chat_template.jinja": "of\r\nWindows\r\n"},
        {"tokenizer_config.json": "the tokenizer's", "chat_template.json": '{"chat_template": "the processor\'s"}'},
    ],
    ids="+".join,
)
def test_as_transformers_finds_them(tmp_path: Path, files: dict[str, Any]) -> None:
    size = byte_level(tmp_path, (QWEN2,), vocab_size=300)
    put(tmp_path, files)
    expected = AutoTokenizer.from_pretrained(tmp_path).chat_template
    expected = {"default": expected} if isinstance(expected, str) else expected
    vocabulary = read_vocabulary(tmp_path, size)
    assert vocabulary.chat_templates == expected
    write_vocabulary(tmp_path / "keys.gguf", vocabulary)
    fields = {name: field.contents() for name, field in GGUFReader(tmp_path / "keys.gguf").fields.items()}
    assert fields.get("tokenizer.chat_template") == expected.get("default")
    named = {name.replace(" ", "_"): text for name, text in expected.items() if name != "default"}
    assert fields.get("tokenizer.chat_templates", []) == list(named)
    assert {name: fields[f"tokenizer.chat_template.{name}"] for name in named} == named


def test_a_processors_template_counts_where_the_tokenizer_has_none(tmp_path: Path) -> None:
    size = byte_level(tmp_path, (QWEN2,), vocab_size=300)
    put(tmp_path, {"chat_template.json": '\ufeff{"chat_template": "the processor\'s"}'})
    assert read_vocabulary(tmp_path, size).chat_templates == {"default": "the processor's"}


def test_a_byte_order_mark_is_no_part_of_a_template(tmp_path: Path) -> None:
    size = byte_level(tmp_path, (QWEN2,), vocab_size=300)
    put(tmp_path, {"chat_template.jinja": "\ufefftext"})
    assert read_vocabulary(tmp_path, size).chat_templates == {"default": "text"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (7, "chat_template is int '7'; a list was expected"),
        ([{"name": "a"}], "chat_template[0].template is NoneType 'None'; a string was expected"),
        ({"a": 1}, "chat_template.a is int '1'; a string was expected"),
    ],
)
def test_what_is_no_template(tmp_path: Path, given: Any, message: str) -> None:
    size = byte_level(tmp_path, (QWEN2,), vocab_size=300)
    put(tmp_path, {"tokenizer_config.json": given})
    with pytest.raises(VocabularyError) as refusal:
        read_vocabulary(tmp_path, size)
    assert message in str(refusal.value)
