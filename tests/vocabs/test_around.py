"""What is put around a text, and what happens to the spaces beside special tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf import SpecialVocab
from tokenizers import processors
from transformers import AutoTokenizer
from vocabs.small_tokenizers import SPECIAL, byte_level, edit

from converter.vocabs import prove, prove_file, read_vocabulary
from converter.vocabs.pretokenizers import QWEN2
from converter.vocabs.structure import GPT2
from converter.vocabs.vocab_only_gguf import write_vocabulary

BEGIN, END, TURN = SPECIAL
ROBERTA = processors.RobertaProcessing((END, 1), (BEGIN, 0), add_prefix_space=False)
MODERN_BERT = processors.TemplateProcessing(
    single=f"{BEGIN} $A {END}", pair=f"{BEGIN} $A {END} $B {END}", special_tokens=[(BEGIN, 0), (END, 1)]
)


def processed(directory: Path, processor: Any, settings: dict[str, Any]) -> int:
    """A byte-level tokenizer with this post-processor; its size."""
    size = byte_level(directory, (GPT2,), vocab_size=500)

    def put(tokenizer: dict[str, Any]) -> None:
        tokenizer["post_processor"] = json.loads(processor.__getstate__()) if processor else None

    edit(directory / "tokenizer.json", put)
    (directory / "tokenizer_config.json").unlink()
    edit(directory / "tokenizer_config.json", lambda data: data.update(settings))
    return size


@pytest.mark.parametrize(
    ("processor", "settings", "flags"),
    [
        (ROBERTA, {"bos_token": BEGIN, "eos_token": END}, {"bos": True, "eos": True, "sep": True}),
        (ROBERTA, {}, {"bos": True, "eos": True, "sep": True}),
        (MODERN_BERT, {"cls_token": BEGIN, "sep_token": END}, {"bos": True, "eos": True, "sep": False}),
        (MODERN_BERT, {"cls_token": BEGIN, "sep_token": END, "add_bos_token": False}, {"bos": True, "eos": True}),
    ],
    ids=["RoBERTa", "RoBERTa without settings", "ModernBERT", "overridden in vain"],
)
def test_encoders(tmp_path: Path, processor: Any, settings: dict[str, Any], flags: dict[str, bool]) -> None:
    size = processed(tmp_path, processor, settings)
    vocabulary = read_vocabulary(tmp_path, size)
    assert {**vocabulary.add_special, **flags} == vocabulary.add_special
    assert (vocabulary.special_ids["bos"], vocabulary.special_ids["eos"]) == (0, 1)
    if settings and "add_bos_token" not in settings:
        assert vocabulary.special_ids.items() >= SpecialVocab(tmp_path, n_vocab=size).special_token_ids.items()
        assert vocabulary.add_special == SpecialVocab(tmp_path, n_vocab=size).add_special_token
    assert prove(vocabulary, tmp_path).agreeing
    assert AutoTokenizer.from_pretrained(tmp_path)("x").input_ids[0] == 0


@pytest.mark.parametrize("settings", [{}, {"add_bos_token": True}, {"add_eos_token": True}])
def test_without_a_post_processor_nothing_is_added(tmp_path: Path, settings: dict[str, bool]) -> None:
    """Whatever tokenizer_config.json says: transformers does not read it where there is a tokenizer.json."""
    size = processed(tmp_path, None, {"bos_token": BEGIN, "eos_token": END, **settings})
    ids = AutoTokenizer.from_pretrained(tmp_path)("x").input_ids
    assert len(ids) == 1
    assert prove(read_vocabulary(tmp_path, size), tmp_path).agreeing


def stripping(directory: Path) -> int:
    """A tokenizer with Phi-3's texts, whose special tokens swallow what follows them but for three; its size."""
    size = byte_level(directory, (QWEN2,), vocab_size=400)
    texts = ["<unk>", "<s>", "<|endoftext|>", "</s>", "<|user|>", "<|assistant|>"]
    marks = {"single_word": False, "lstrip": False, "normalized": False, "special": True}

    def add(tokenizer: dict[str, Any]) -> None:
        tokenizer["added_tokens"] += [
            {"id": size + number, "content": text, "rstrip": number > 2, **marks} for number, text in enumerate(texts)
        ]
        for token in tokenizer["added_tokens"][:4]:
            token["rstrip"] = True

    edit(directory / "tokenizer.json", add)
    return size + len(texts)


def test_a_name_that_llama_cpp_makes_an_exception_for(tmp_path: Path) -> None:
    """In a file called Phi-3 llama.cpp drops the spaces after special tokens, as that family's tokenizer does."""
    size = stripping(tmp_path)
    vocabulary = read_vocabulary(tmp_path, size)
    assert prove(vocabulary, tmp_path, name="Phi-3 Mini").limits == ()
    (limit,) = prove(vocabulary, tmp_path, name="Mini").limits
    assert limit.startswith("llama.cpp keeps the spaces around '<|begin_of_text|>' and others")
    for name, limits in (("My Phi3 tune", 0), ("My tune", 1)):
        write_vocabulary(tmp_path / "file.gguf", vocabulary, name)
        proof = prove_file(tmp_path / "file.gguf", tmp_path)
        assert proof.agreeing
        assert len(proof.limits) == limits


def test_such_a_name_with_another_tokenizer(tmp_path: Path) -> None:
    size = stripping(tmp_path)
    edit(tmp_path / "tokenizer.json", lambda data: [token.update(rstrip=False) for token in data["added_tokens"]])
    vocabulary = read_vocabulary(tmp_path, size)
    assert prove(vocabulary, tmp_path).limits == ()
    assert prove(vocabulary, tmp_path, name="phi-3").limits == (
        "for the name 'phi-3' llama.cpp drops the spaces after special tokens, which the source keeps",
    )
