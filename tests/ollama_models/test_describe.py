"""The Modelfile of a GGUF: what of its key-values and its checkpoint gets into it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf as gguf_library
import llama_cpp_vocabulary
import pytest
from ollama_models.chat_templates import FAMILIES
from ollama_models.text_template import render, values

from converter.errors import CheckpointError
from converter.ollama import modelfile
from converter.ollama.describe import describe
from converter.ollama.syntax import read_modelfile

SAMPLE = Path(__file__).parents[1] / "fixtures" / "sample"
TALK = [
    {"role": "system", "content": "Answer briefly."},
    {"role": "user", "content": "def f(x):\n    return x"},
    {"role": "assistant", "content": "the identity"},
    {"role": "user", "content": "And g?"},
]
TOKENS = ("<unk>", "<s>", "</s>", "<|im_end|>", "<|user|>", "<|eot|>", "plain", "<|im_end|>x")
TYPES = [2, 3, 3, 3, 4, 3, 1, 3]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A GGUF without weights; key-values by name, of which None leaves a usual one out."""

    def write(**given: Any) -> Path:
        writer = gguf_library.GGUFWriter(tmp_path / "m.gguf", "llama")
        usual = {
            "llama.context_length": 32768, "tokenizer.ggml.model": "llama", "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2, "tokenizer.chat_template": FAMILIES["chatml"],
        }  # fmt: skip
        for key, value in (usual | {name.replace("__", "."): value for name, value in given.items()}).items():
            if isinstance(value, bool):
                writer.add_bool(key, value)
            elif isinstance(value, int):
                writer.add_uint32(key, value)
            elif isinstance(value, str):
                writer.add_string(key, value)
        writer.add_token_list(TOKENS)
        writer.add_token_types(TYPES)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return tmp_path / "m.gguf"

    return write


def test_tokens_of_a_conversation_are_those_of_transformers(gguf: Path) -> None:
    """Ollama's template and llama.cpp's tokenizer give the tokens that the checkpoint's own tokenizer gives."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(SAMPLE)
    template = read_modelfile(modelfile(gguf), "Modelfile").template
    talks = (TALK, TALK[1:], TALK[1:2])
    found = llama_cpp_vocabulary.tokenize(gguf, [render(template, values(talk)) for talk in talks])
    for talk, ids in zip(talks, found, strict=True):
        assert ids == tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)


@pytest.mark.parametrize(
    ("given", "begins"),
    [
        ({"tokenizer__ggml__model": "llama"}, ""),
        ({"tokenizer__ggml__model": "llama", "tokenizer__ggml__add_bos_token": False}, "<s>"),
        ({"tokenizer__ggml__model": "gpt2", "tokenizer__ggml__pre": "qwen2"}, "<s>"),
        ({"tokenizer__ggml__model": "gpt2", "tokenizer__ggml__pre": "llama-bpe"}, ""),
        ({"tokenizer__ggml__model": "gpt2", "tokenizer__ggml__add_bos_token": True}, ""),
    ],
)
def test_the_first_token_is_there_once(write: Write, given: dict[str, Any], begins: str) -> None:
    """It is in the template only where the tokenizer does not put it before every prompt."""
    file = write(tokenizer__chat_template=FAMILIES["mistral v7"], **given)
    assert render(describe(file).template, values(TALK)).startswith(f"{begins}[SYSTEM_PROMPT] Answer")


@pytest.mark.parametrize(
    ("given", "generation", "stops"),
    [
        ({}, "{}", ["<|im_end|>"]),
        ({"tokenizer__ggml__eos_token_id": 3}, "{}", None),
        ({"tokenizer__ggml__eot_token_id": 3}, "{}", None),
        ({}, '{"eos_token_id": [2, 3, 5]}', ["<|im_end|>", "<|eot|>"]),
        ({}, '{"eos_token_id": 5}', ["<|im_end|>", "<|eot|>"]),
        ({}, '{"eos_token_id": [99, "x"]}', ["<|im_end|>"]),
        ({"tokenizer__chat_template": FAMILIES["glm4"]}, "{}", ["<|user|>"]),
        ({"tokenizer__chat_template": FAMILIES["alpaca"]}, "{}", ["### Instruction:"]),
        ({"tokenizer__chat_template": FAMILIES["llama2"]}, "{}", None),
    ],
)
def test_stops(write: Write, tmp_path: Path, given: dict[str, Any], generation: str, stops: list[str] | None) -> None:
    """What ends an answer and is not already the GGUF's end of text or of turn."""
    (tmp_path / "generation_config.json").write_text(generation)
    assert describe(write(**given), tmp_path).parameters.get("stop") == stops


@pytest.mark.parametrize(
    ("generation", "parameters"),
    [
        ('{"temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.05}',
         {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.05, "repeat_penalty": 1.05}),
        ('{"do_sample": false, "temperature": 0.7, "repetition_penalty": 1.2}', {"repeat_penalty": 1.2}),
        ('{"do_sample": true, "temperature": null, "top_k": 0}', {"top_k": 0}),
    ],
)  # fmt: skip
def test_sampling(write: Write, tmp_path: Path, generation: str, parameters: dict[str, Any]) -> None:
    (tmp_path / "generation_config.json").write_text(generation)
    found = describe(write(tokenizer__ggml__eos_token_id=3), tmp_path).parameters
    assert found == parameters


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ('{"temperature": "hot"}', "temperature is 'hot', expected a number of 0 or more; correct it"),
        ('{"temperature": true}', "temperature is True, expected a number of 0 or more"),
        ('{"top_p": 2}', "top_p is 2, expected a number from 0 to 1"),
        ('{"top_k": 2.5}', "top_k is 2.5, expected an integer of 0 or more"),
        ('{"min_p": NaN}', "min_p is nan, expected a number from 0 to 1"),
        ('{"repetition_penalty": 0}', "repetition_penalty is 0, expected a number above 0"),
        ("[]", "holds [], expected a JSON object"),
    ],
)
def test_sampling_that_makes_no_sense(write: Write, tmp_path: Path, generation: str, message: str) -> None:
    (tmp_path / "generation_config.json").write_text(generation)
    with pytest.raises(CheckpointError) as refused:
        describe(write(), tmp_path)
    assert "generation_config.json: " in str(refused.value)
    assert message in str(refused.value)


def test_a_context_smaller_than_ollamas(write: Write) -> None:
    assert describe(write(llama__context_length=2048)).parameters["num_ctx"] == 2048
    assert "num_ctx" not in describe(write()).parameters


def test_license(write: Write, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    assert describe(write()).licenses == ()
    file = write(general__license="other", general__license__name="ours", general__license__link="https://example.org")
    assert describe(file, source).licenses == ("ours other https://example.org",)
    (source / "LICENSE.txt").write_bytes(b'Use it.\n\n"""\nNo warranty \xff.\n')
    assert describe(file, source).licenses == ('Use it.\n\n"""\nNo warranty \ufffd.',)
    assert read_modelfile(modelfile(file, directory=source), "").licenses == ('Use it.\n\n"" "\nNo warranty \ufffd.',)


def test_a_chat_template_that_follows_no_pattern(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    file = write(tokenizer__chat_template="{{ messages | length }}", general__license="mit")
    with caplog.at_level(logging.WARNING):
        text = modelfile(file)
    assert text.splitlines() == [
        "# No TEMPLATE: of the model's chat template, its prompts do not follow one pattern of turns.",
        "# Ollama then uses the chat template in the GGUF itself, or in versions before 0.30 the one it knows that is "
        "most alike, if any is.",
        "FROM ./m.gguf",
        "LICENSE mit",
    ]
    assert f"{file}: no TEMPLATE is written" in caplog.text


def test_a_model_without_a_chat_template(write: Write) -> None:
    assert modelfile(write(tokenizer__chat_template=None)) == (
        "# The model has no chat template: Ollama passes a prompt on as it is.\nFROM ./m.gguf\n"
    )


def test_remarks_stand_in_the_modelfile(write: Write) -> None:
    text = modelfile(write(tokenizer__chat_template=FAMILIES["gemma"]))
    assert text.startswith("# The model's chat template takes no system message; one is put before the first user's.\n")


def test_an_adapter_is_no_model(write: Write) -> None:
    with pytest.raises(CheckpointError, match=r"m\.gguf: holds 'adapter', a model expected"):
        describe(write(general__type="adapter"))
