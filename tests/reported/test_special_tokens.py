"""Special tokens that have no row in the embedding: left out with a word, or refused; the vocabulary has 512."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp_oracle
import pytest
from checkpoint_builder import write_model
from gguf import GGUFReader
from reported_configurations import TOKENS, edited

from converter import Result, convert
from converter.architectures import find_family
from converter.errors import ArchitectureError, VocabularyError


def ids(file: Path) -> dict[str, int]:
    """The special tokens of a file, by llama.cpp's keys."""
    fields = GGUFReader(file).fields
    prefix, suffix = "tokenizer.ggml.", "_token_id"
    return {
        key.removeprefix(prefix).removesuffix(suffix): int(field.parts[field.data[0]][0])
        for key, field in fields.items()
        if key.startswith(prefix) and key.endswith(suffix)
    }


#: How many tokens the tests' tokenizer has, if it may have no more.
ROWS = 360

NO_NAMES = {"bos_token": None, "eos_token": None}


@pytest.mark.parametrize(
    ("files", "warnings", "expected"),
    [
        (
            {
                "config": {"eos_token_id": 512},
                "generation_config": {"eos_token_id": None},
                "tokenizer_config": NO_NAMES,
            },
            (
                "config.json: eos_token_id 512 has no row among the 512 of the embedding; it is left out",
                "no end token is left, so llama.cpp ends a text at token 11, '*'",
            ),
            {"bos": 0},
        ),
        (
            {"config": {"eos_token_id": 32000}, "generation_config": {"eos_token_id": 32000}},
            (
                "config.json and generation_config.json: eos_token_id 32000 has no row among the 512 of the embedding; "
                "it is left out",
            ),
            {"bos": 0, "eos": 1},
        ),
        (
            {
                "config": {"eos_token_id": None},
                "generation_config": {"eos_token_id": [600, 7, 8]},
                "tokenizer_config": NO_NAMES,
            },
            ("generation_config.json: eos_token_id 600 has no row among the 512 of the embedding; it is left out",),
            {"bos": 0, "eos": 7, "eot": 8},
        ),
        (
            {"config": {"pad_token_id": 10**30, "sep_token_id": -7, "cls_token_id": 3, "mask_token_id": None}},
            (
                "config.json: sep_token_id -7 has no row among the 512 of the embedding; it is left out",
                f"config.json: pad_token_id {10**30} has no row among the 512 of the embedding; it is left out",
            ),
            {"bos": 0, "eos": 1},
        ),
        ({"config": {"pad_token_id": -1}}, (), {"bos": 0, "eos": 1}),
    ],
)
@pytest.mark.parametrize("verify", ["none", "load"])
def test_special_tokens_without_a_row(
    verify: str,
    files: dict[str, dict[str, Any]],
    warnings: tuple[str, ...],
    expected: dict[str, int],
    llama: Path,
    tmp_path: Path,
    converted: Callable[..., Result],
) -> None:
    result = converted(edited(llama, tmp_path / "model", **files), verify)
    assert result.warnings == warnings
    assert ids(result.output) == expected
    llama_cpp_oracle.logits(result.output, TOKENS)


@pytest.mark.parametrize("verify", ["none", "load"])
def test_a_named_end_token_without_a_row(verify: str, tmp_path: Path, converted: Callable[..., Result]) -> None:
    """transformers numbers it behind the vocabulary's other tokens, and the embedding ends there."""
    import transformers

    full = write_model(tmp_path / "full", "llama", vocab_size=ROWS)
    names = {"eos_token": "<|eot_id|>", "pad_token": {"content": "<|pad|>", "__type": "AddedToken", "special": True}}
    model = edited(full, tmp_path / "model", tokenizer_config=names)
    assert transformers.AutoTokenizer.from_pretrained(model).eos_token_id >= ROWS
    result = converted(model, verify)
    assert result.warnings == (
        f"tokenizer_config.json: eos_token '<|eot_id|>' has no row among the {ROWS} of the embedding; it is left out",
        f"tokenizer_config.json: pad_token '<|pad|>' has no row among the {ROWS} of the embedding; it is left out",
    )
    assert ids(result.output) == {"bos": 0, "eos": 1}


@pytest.mark.parametrize("field", ["pad_token_id", "eos_token_id"])
@pytest.mark.parametrize("value", ["5", 1.5, True, [1, "2"], {"a": 1}])
@pytest.mark.parametrize("file", ["config", "generation_config"])
def test_ids_of_the_wrong_type(file: str, value: Any, field: str, llama: Path, tmp_path: Path) -> None:
    model = edited(llama, tmp_path / "model", **{file: {field: value}})
    with pytest.raises(VocabularyError, match=rf"{file}\.json: {field} is .*; an integer was expected"):
        convert(model, "f32", tmp_path / "out.gguf", verify="none")


@pytest.mark.parametrize("field", ["decoder_start_token_id", "pad_token_id"])
def test_a_start_token_without_a_row(field: str, tmp_path: Path) -> None:
    from converter.checkpoints import open_checkpoint

    config = {"architectures": ["T5ForConditionalGeneration"], "vocab_size": 512, field: 512}
    model = write_model(tmp_path / "model", "llama")
    family = find_family(config)(config, open_checkpoint(model).tensors)
    with pytest.raises(ArchitectureError, match=f"'{field}' is 512, an id below the 512 rows"):
        family.key_values()


@pytest.mark.parametrize("verify", ["none", "load"])
def test_a_name_by_which_llama_cpp_looks_for_tokens(
    verify: str, tmp_path: Path, converted: Callable[..., Result]
) -> None:
    """It looks up ``<|endoftext|>`` in a model called Phi-3, which one of 32,000 rows doesn't have."""
    result = converted(write_model(tmp_path / "phi3-own", "phi3"), verify)
    assert result.warnings[-1] == (
        "general.name is 'Phi 3 Own': under the name 'Phi3 Own' llama.cpp looks for </s>, <unk>, <s>, <|endoftext|>, "
        "which the vocabulary does not have, and does not load the file"
    )
    llama_cpp_oracle.logits(result.output, TOKENS)
