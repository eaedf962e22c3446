"""Where a reply ends and how a text is filled in, as llama.cpp itself understands the written file."""

from __future__ import annotations

from pathlib import Path

import pytest
from llama_cpp_vocabulary import Special, special_tokens
from vocabs.small_tokenizers import SPECIAL, byte_level, edit

from converter.errors import VocabularyError
from converter.vocabs import Vocabulary, prove, read_vocabulary
from converter.vocabs.end_of_generation import END_OF_TURN, FILL_IN_THE_MIDDLE, KNOWN_ENDS
from converter.vocabs.pretokenizers import QWEN2
from converter.vocabs.vocab_only_gguf import write_vocabulary


def with_added(directory: Path, *texts: str) -> tuple[int, dict[str, int]]:
    """A tokenizer that has these tokens beside ``SPECIAL``; its size and the ids of the texts."""
    size = byte_level(directory, (QWEN2,), vocab_size=300)
    new = {text: size + number for number, text in enumerate(text for text in texts if text not in SPECIAL)}
    decoder = {str(token_id): {"content": text, "special": True} for text, token_id in new.items()}
    edit(directory / "tokenizer_config.json", lambda data: data.update(added_tokens_decoder=decoder))
    ids = {text: number for number, text in enumerate(SPECIAL)} | new
    return size + len(new), {text: ids[text] for text in texts}


def loaded(directory: Path, vocabulary: Vocabulary) -> Special:
    """A vocabulary as llama.cpp sees it."""
    write_vocabulary(directory / "file.gguf", vocabulary)
    return special_tokens(directory / "file.gguf")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["<|eot_id|>", "<|eom_id|>"], {"eot": "<|eot_id|>", "eom": "<|eom_id|>"}),
        (["<|eom_id|>", "<|other|>"], {"eom": "<|eom_id|>", "eot": "<|other|>"}),
        (["<one>", "<two>"], {"eot": "<one>", "eom": "<two>"}),
        (["<|endoftext|>", "</s>"], {}),
        (["<one>", "<end_of_turn>"], {"eot": "<end_of_turn>", "eom": "<one>"}),
    ],
)
@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_llama_cpp_stops_at_every_end(tmp_path: Path, texts: list[str], expected: dict[str, str], file: str) -> None:
    size, ids = with_added(tmp_path, *texts)
    edit(tmp_path / file, lambda data: data.update(eos_token_id=[1, *ids.values()]))
    vocabulary = read_vocabulary(tmp_path, size)
    roles = {role: token_id for role, token_id in vocabulary.special_ids.items() if role in ("eot", "eom")}
    assert roles == {role: ids[text] for role, text in expected.items()}
    assert vocabulary.limits == ()
    special = loaded(tmp_path, vocabulary)
    assert {1, *ids.values()} <= special.ends
    assert special.roles["eos"] == 1


def test_ends_without_a_place_are_told(tmp_path: Path) -> None:
    size, ids = with_added(tmp_path, "<one>", "<two>", "<three>", "<|im_end|>")
    edit(tmp_path / "generation_config.json", lambda data: data.update(eos_token_id=[1, *ids.values()]))
    vocabulary = read_vocabulary(tmp_path, size)
    assert prove(vocabulary, tmp_path).limits == (
        "llama.cpp has no place for so many end tokens: it does not stop at '<two>', '<three>'",
    )
    assert loaded(tmp_path, vocabulary).ends >= {1, ids["<one>"], ids["<|im_end|>"]}


def test_ends_that_are_no_ids(tmp_path: Path) -> None:
    size = byte_level(tmp_path, (QWEN2,), vocab_size=300)
    edit(tmp_path / "generation_config.json", lambda data: data.update(eos_token_id=["</s>"]))
    with pytest.raises(VocabularyError) as refusal:
        read_vocabulary(tmp_path, size)
    assert str(refusal.value) == (
        f"{tmp_path / 'generation_config.json'}: eos_token_id is str '</s>'; an integer was expected; fetch the file "
        "again"
    )


def test_llama_cpp_knows_these_ends_by_their_text(tmp_path: Path) -> None:
    known = sorted(KNOWN_ENDS - {"<|end|>", "</s>"})  # the two that llama.cpp takes back beside some others
    size, ids = with_added(tmp_path, *known, "▁<EOT>")
    vocabulary = read_vocabulary(tmp_path, size)
    assert "eot" not in vocabulary.special_ids
    ends = loaded(tmp_path, vocabulary).ends
    assert {ids[text] for text in known} <= ends
    assert ids["▁<EOT>"] not in ends
    assert "▁<EOT>" in END_OF_TURN


@pytest.mark.parametrize("spelling", range(max(map(len, FILL_IN_THE_MIDDLE.values()))))
def test_fill_in_the_middle(tmp_path: Path, spelling: int) -> None:
    texts = {role: texts[min(spelling, len(texts) - 1)] for role, texts in FILL_IN_THE_MIDDLE.items()}
    size, ids = with_added(tmp_path, *texts.values())
    vocabulary = read_vocabulary(tmp_path, size)
    special = loaded(tmp_path, vocabulary)
    for role, text in texts.items():
        assert vocabulary.special_ids[role] == special.roles[role] == ids[text]


def test_a_prefix_alone_fills_nothing_in(tmp_path: Path) -> None:
    size, _ = with_added(tmp_path, "[PREFIX]", "<|file_sep|>")
    assert not set(FILL_IN_THE_MIDDLE) & set(read_vocabulary(tmp_path, size).special_ids)
