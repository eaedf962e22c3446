"""Tokenizers that people reported as refused without a cause: what llama.cpp lacks is named, by one rule."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoint_builder import write_model
from command_line import convert, refusal
from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer
from vocabs.other_kinds import unigram, wordpiece
from vocabs.small_tokenizers import SPECIAL, byte_level, edit, fast_sentencepiece

from converter.errors import VocabularyError
from converter.vocabs import TokenizerProof, prove, read_vocabulary
from converter.vocabs.structure import GPT2

Change = Callable[[Tokenizer], object]


def changed(directory: Path, change: Change) -> int:
    """A byte-level tokenizer with a change; its size."""
    byte_level(directory, (GPT2,), vocab_size=400)
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    change(tokenizer)
    tokenizer.save(str(directory / "tokenizer.json"))
    return tokenizer.get_vocab_size()


def part(name: str, value: Any) -> Change:
    return lambda tokenizer: setattr(tokenizer, name, value)


def template(single: str, *texts: str) -> Change:
    ids = [(text, SPECIAL.index(text)) for text in texts]
    return part("post_processor", processors.TemplateProcessing(single=single, special_tokens=ids))


BEGIN, END, TURN = SPECIAL
NORMALIZER = "llama.cpp has no counterpart of the source's normalizer {} for a byte-level vocabulary; "
Space = pre_tokenizers.ByteLevel

REFUSED: dict[str, tuple[Change, str]] = {
    "lowercase": (part("normalizer", normalizers.Lowercase()), NORMALIZER.format("Lowercase")),
    "nfkc": (part("normalizer", normalizers.NFKC()), NORMALIZER.format("NFKC")),
    "nfd": (part("normalizer", normalizers.NFD()), NORMALIZER.format("NFD")),
    "strip": (part("normalizer", normalizers.Strip(left=False)), NORMALIZER.format("Strip(right)")),
    "replace": (
        part("normalizer", normalizers.Replace("...", "…")),
        NORMALIZER.format("Replace('...' by '…')"),
    ),
    "prepend": (part("normalizer", normalizers.Prepend("x")), NORMALIZER.format("Prepend('x')")),
    "lowercase in a sequence": (
        part("normalizer", normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])),
        NORMALIZER.format("Lowercase"),
    ),
    "accents": (
        part("normalizer", normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])),
        NORMALIZER.format("NFD, StripAccents"),
    ),
    "prefix space": (
        part("pre_tokenizer", Space(add_prefix_space=True, use_regex=True)),
        "llama.cpp puts no space before a text with a byte-level vocabulary, as the source does (add_prefix_space); ",
    ),
    "single word": (
        lambda tokenizer: tokenizer.add_tokens([AddedToken("river", single_word=True, normalized=False)]),
        "llama.cpp finds the added token 'river' inside longer words, too, which the source does not (single_word); ",
    ),
    "a word that takes its space": (
        lambda tokenizer: tokenizer.add_tokens([AddedToken("river", lstrip=True, normalized=False)]),
        "llama.cpp keeps the spaces around 'river' that the source drops; ",
    ),
    "another token first": (
        template(f"{TURN} $A", TURN),
        f"the source's post-processor begins every text with '{TURN}', llama.cpp with nothing; ",
    ),
    "two tokens first": (
        template(f"{BEGIN} {TURN} $A", BEGIN, TURN),
        f"the source's post-processor begins every text with '{BEGIN}' '{TURN}', llama.cpp with '{BEGIN}'; ",
    ),
    "two tokens last": (
        template(f"{BEGIN} $A {TURN} {END}", BEGIN, TURN, END),
        f"the source's post-processor ends every text with '{TURN}' '{END}', llama.cpp with '{END}'; ",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_ordinary_text_shows_is_refused_with_its_cause(tmp_path: Path, name: str) -> None:
    change, cause = REFUSED[name]
    size = changed(tmp_path, change)
    with pytest.raises(VocabularyError) as stopped:
        prove(read_vocabulary(tmp_path, size), tmp_path)
    message = str(stopped.value)
    assert message.startswith(f"{tmp_path / 'tokenizer.json'}: {cause}ordinary text shows it: ")
    assert message.endswith(" for llama.cpp; --pre gpt-2 writes the file anyway")
    assert "\n" not in message
    # And so it does, the cause being said.
    proof = prove(read_vocabulary(tmp_path, size, pre="gpt-2"), tmp_path)
    assert not proof.agreeing
    assert str(proof.difference).startswith(cause)


def test_the_string_that_is_shown_is_what_transformers_makes_of_it(tmp_path: Path) -> None:
    size = changed(tmp_path, part("normalizer", normalizers.Lowercase()))
    proof = prove(read_vocabulary(tmp_path, size, pre="gpt-2"), tmp_path)
    assert proof.difference is not None
    source = AutoTokenizer.from_pretrained(tmp_path)
    assert proof.difference.source == tuple(source.tokenize(proof.difference.text))
    assert proof.difference.text == "The"


WARNED: dict[str, tuple[Change, str]] = {
    "nfc": (part("normalizer", normalizers.NFC()), "llama.cpp does not compose characters (NFC) as the source does"),
    "rstrip": (
        lambda tokenizer: tokenizer.add_tokens([AddedToken("<|x|>", rstrip=True, normalized=False)]),
        "llama.cpp keeps the spaces around '<|x|>' that the source drops",
    ),
    "single word that is no word": (
        lambda tokenizer: tokenizer.add_tokens([AddedToken("<|x|>", single_word=True, normalized=False)]),
        "llama.cpp finds the added token '<|x|>' inside longer words, too",
    ),
    "a rare character": (
        part("normalizer", normalizers.Replace("\u180e", "")),
        NORMALIZER.format("Replace('\\u180e' by '')").removesuffix("; "),
    ),
}


@pytest.mark.parametrize("name", WARNED)
def test_what_only_unusual_text_shows_is_a_warning(tmp_path: Path, name: str) -> None:
    change, limit = WARNED[name]
    size = changed(tmp_path, change)
    proof = prove(read_vocabulary(tmp_path, size), tmp_path)
    assert proof.agreeing
    (said,) = proof.limits
    assert said.startswith(limit)


PAIRS: list[tuple[Change, bool, bool]] = [
    (template(f"{BEGIN} $A", BEGIN), True, False),
    (template(f"$A {END}", END), False, True),
    (
        part(
            "post_processor",
            processors.TemplateProcessing(
                single=f"{BEGIN} $A {END}", pair=f"{BEGIN} $A {END} $B {END}", special_tokens=[(BEGIN, 0), (END, 1)]
            ),
        ),
        True,
        True,
    ),
    (template("$A"), False, False),
]


@pytest.mark.parametrize(("change", "begins", "ends"), PAIRS)
@pytest.mark.parametrize("settings", [{}, {"add_bos_token": True, "add_eos_token": True}, {"add_bos_token": False}])
def test_the_template_decides_what_is_added_whatever_the_settings_say(
    tmp_path: Path, change: Change, begins: bool, ends: bool, settings: dict[str, bool]
) -> None:
    size = changed(tmp_path, change)
    edit(tmp_path / "tokenizer_config.json", lambda data: data.update(settings))
    ids = AutoTokenizer.from_pretrained(tmp_path)("x").input_ids
    assert ((ids[0] == 0), (ids[-1] == 1)) == (begins, ends)
    proof = prove(read_vocabulary(tmp_path, size), tmp_path)
    assert (proof.agreeing, proof.limits) == (True, ())
    assert (proof.vocabulary.add_special["bos"], proof.vocabulary.add_special.get("eos", False)) == (begins, ends)


def proof_of(directory: Path, size: int, change: Callable[[dict[str, Any]], object]) -> TokenizerProof:
    edit(directory / "tokenizer.json", change)
    vocabulary = read_vocabulary(directory, size)
    return prove(read_vocabulary(directory, size, pre=vocabulary.pre), directory)


def normalized_by(component: Any) -> Callable[[dict[str, Any]], object]:
    def change(data: dict[str, Any]) -> None:
        own = data["normalizer"]
        parts = own["normalizers"] if own and own["type"] == "Sequence" else [own] if own else []
        data["normalizer"] = {"type": "Sequence", "normalizers": [json.loads(component.__getstate__()), *parts]}

    return change


@pytest.mark.parametrize("kind", ["BPE", "Unigram", "WordPiece"])
@pytest.mark.parametrize(
    ("component", "named"), [(normalizers.NFKC(), "NFKC"), (normalizers.Replace("e", "a"), "Replace('e' by 'a')")]
)
def test_normalizers_of_the_other_kinds_are_named(tmp_path: Path, kind: str, component: Any, named: str) -> None:
    if kind == "BPE":
        size = fast_sentencepiece(
            tmp_path, normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        )
    else:
        size = {"Unigram": unigram, "WordPiece": wordpiece}[kind](tmp_path)
    proof = proof_of(tmp_path, size, normalized_by(component))
    expected = f"llama.cpp has no counterpart of the source's normalizer {named} for a {kind} vocabulary"
    if kind == "Unigram" and named == "NFKC":  # its compiled rules do that already
        assert proof.agreeing
    else:
        assert proof.difference is not None
        assert proof.difference.cause == expected


def test_pre_tokenizers_of_the_other_kinds_are_named(tmp_path: Path) -> None:
    size = wordpiece(tmp_path)
    proof = proof_of(tmp_path, size, lambda data: data.update(pre_tokenizer={"type": "WhitespaceSplit"}))
    assert proof.difference is not None
    expected = "llama.cpp has no counterpart of the source's pre-tokenizer WhitespaceSplit for a WordPiece vocabulary"
    assert proof.difference.cause == expected


def test_a_refusal_on_the_command_line_and_the_option_that_goes_on(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "llama")
    edit(model / "tokenizer.json", lambda data: data.update(normalizer={"type": "Lowercase"}))
    run = ("--model", model, "--method", "q8_0", "--output", tmp_path / "x.gguf", "--no-catalogue")
    message = refusal(*run)
    assert message.startswith(f"{model / 'tokenizer.json'}: llama.cpp has no counterpart of the source's normalizer")
    option = message.rsplit("; ", 1)[1].removesuffix(" writes the file anyway")
    outcome = convert(*run, *option.split())
    assert outcome.code == 0, outcome
    assert "normalizer Lowercase" in outcome.err
    assert GGUFReader(tmp_path / "x.gguf").fields["tokenizer.ggml.pre"].contents() == option.split()[1]
