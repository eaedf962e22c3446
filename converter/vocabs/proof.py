"""The proof that a written vocabulary gives the source's tokens."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gguf import TokenType

from converter.errors import VocabularyError
from converter.runtime import IsolatedFailure, run_isolated
from converter.vocabs import pretokenizers, structure
from converter.vocabs.files import read_tokenizer_files
from converter.vocabs.header import write_vocabulary
from converter.vocabs.probe import probe_texts
from converter.vocabs.reading import read_files
from converter.vocabs.reference import Ids, Reference, open_reference
from converter.vocabs.vocabulary import Vocabulary

# Texts also compared with begin and end tokens added; these do not depend on the text.
WHOLE = 8
# Names tried in one process when the first ones fail.
BATCH = 6
# Tokens no merge makes that are put to the test as words of their own.
MAX_WORDS = 256


@dataclass(frozen=True)
class Difference:
    """One text and what each side made of it, as token texts."""

    text: str
    source: tuple[str, ...]
    llama_cpp: tuple[str, ...]

    def __str__(self) -> str:
        source, ours = (" ".join(map(repr, tokens[:12])) for tokens in (self.source, self.llama_cpp))
        return f"{self.text[:60]!r} is {source} for the source and {ours} for llama.cpp"


@dataclass(frozen=True)
class TokenizerProof:
    """What the proof found.

    Attributes:
        vocabulary: with the name of the pre-tokenizer that was proved.
        probes: texts compared.
        agreeing: every text got the same tokens from both.
        difference: the first text that did not, where a name was forced on the vocabulary.
        limits: what llama.cpp cannot do that the source does, one sentence each; texts that show it were compared with
            the source without that step.
    """

    vocabulary: Vocabulary
    probes: int
    agreeing: bool
    difference: Difference | None = None
    limits: tuple[str, ...] = ()


def read_vocabulary(directory: Path, vocab_size: int, *, pre: str | None = None) -> Vocabulary:
    """Read the tokenizer of a checkpoint.

    Args:
        directory: where tokenizer.json, tokenizer.model and the files beside them lie.
        vocab_size: rows of the embedding; the vocabulary is padded to it.
        pre: name of llama.cpp's pre-tokenizer, instead of the one derived.

    Raises:
        VocabularyError: files are missing or damaged, the tokenizer is of a kind llama.cpp's file cannot hold, it has
            more tokens than the embedding has rows, or no pre-tokenizer fits it.
    """
    vocabulary = read_files(directory, vocab_size, pre=pre)
    return vocabulary if vocabulary.pre else prove(vocabulary, directory).vocabulary


def prove(vocabulary: Vocabulary, directory: Path) -> TokenizerProof:
    """Show that llama.cpp, given this vocabulary, makes the tokens the source makes.

    The candidates are tried first, then every other pre-tokenizer llama.cpp has. A name that was given is the only one
    tried, and a difference is reported instead of refused.

    Raises:
        VocabularyError: under no name do the two agree; the message shows the first text that differs.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "vocabulary.gguf"
        write_vocabulary(path, vocabulary)
        trial = _Trial(path, vocabulary, directory)
        found = None
        for names in _batches(vocabulary):
            if found := trial.first_agreeing(names):
                break
    if found:
        name, limits = found
        return TokenizerProof(replace(vocabulary, pre=name), len(trial.texts), True, limits=limits)
    if vocabulary.given:
        return TokenizerProof(vocabulary, len(trial.texts), False, trial.difference)
    if trial.difference is None:
        raise VocabularyError(f"{directory}: llama.cpp does not load this vocabulary: {trial.failure}")
    raise VocabularyError(
        f"{directory}: none of llama.cpp's pre-tokenizers gives the source's tokens; with {trial.nearest!r} "
        f"{trial.difference}; --pre NAME overrides"
    )


def prove_file(path: Path, directory: Path) -> TokenizerProof:
    """The same proof for a finished GGUF file, as it stands.

    Args:
        path: the GGUF file.
        directory: the source's tokenizer files.

    Raises:
        VocabularyError: llama.cpp cannot load the file's vocabulary.
    """
    try:
        loaded = _load(path, [""], [], 0)[0]
    except IsolatedFailure as error:
        raise VocabularyError(f"{path}: llama.cpp does not survive loading the file: {error}") from error
    if loaded is None:
        raise VocabularyError(f"{path}: llama.cpp does not load the file's vocabulary; convert the model again")
    vocabulary = read_files(directory, loaded["tokens"])
    trial = _Trial(path, vocabulary, directory)
    found = trial.first_agreeing([""])
    return TokenizerProof(
        vocabulary, len(trial.texts), found is not None, trial.difference, limits=found[1] if found else ()
    )


def _batches(vocabulary: Vocabulary) -> Iterator[list[str]]:
    """Names to try, in order; those of one batch are tried in one process."""
    likely = [name for name in dict.fromkeys((vocabulary.pre, *vocabulary.candidates)) if name]
    yield likely[:1]
    if vocabulary.given or vocabulary.model != "gpt2":
        return
    names = [*likely[1:], *pretokenizers.other_names(likely)]
    for start in range(0, len(names), BATCH):
        yield names[start : start + BATCH]


def _load(path: Path, names: Sequence[str], texts: list[str], whole: int) -> list[dict[str, Any] | None]:
    """llama.cpp's answers (``native.tokenize``). Raises IsolatedFailure where it ends its process."""
    answers: list[dict[str, Any] | None] = run_isolated(
        "converter.vocabs.native:tokenize", path=str(path), names=list(names), texts=texts, whole=whole
    )
    return answers


@dataclass(frozen=True)
class _Level:
    """What the source gives for the texts, alone and (the first of them) with what it adds around."""

    ids: Ids
    whole: Ids
    limit: str | None = None


class _Trial:
    """One file, one source, and the texts both tokenize."""

    def __init__(self, path: Path, vocabulary: Vocabulary, directory: Path) -> None:
        self.path = path
        self.texts = probe_texts(vocabulary.special_texts, _words(vocabulary))
        self.nearest = ""
        self.failure = "its log says why"
        self.difference: Difference | None = None
        self._fewest = len(self.texts) * 2
        self._vocabulary = vocabulary
        self._directory = directory
        self._steps: tuple[str, ...] = ()
        self._source: Reference | None = None
        self._levels: list[_Level] = []

    def first_agreeing(self, names: Sequence[str]) -> tuple[str, tuple[str, ...]] | None:
        """The first name under which llama.cpp agrees with the source, and the limits of llama.cpp that showed."""
        if not names:
            return None
        with ThreadPoolExecutor(1) as pool:
            answers = pool.submit(self._ask, names)
            # llama.cpp starts meanwhile.
            if self._source is None:
                files = read_tokenizer_files(self._directory)
                self._steps = structure.steps(files.tokenizer)
                self._source = open_reference(files)
                self._levels.append(self._level(None))
            results = answers.result()
        for name, result in zip(names, results, strict=True):
            if result is not None and (limits := self._compare(name, result)) is not None:
                return name, limits
        return None

    def _ask(self, names: Sequence[str]) -> list[dict[str, Any] | None]:
        """Answers for the names; where one of them ends llama.cpp's process, the others still get theirs."""
        try:
            return _load(self.path, names, self.texts, WHOLE)
        except IsolatedFailure as error:
            self.failure = str(error)
            return [None] if len(names) == 1 else [answer for name in names for answer in self._ask([name])]

    def _level(self, limit: str | None) -> _Level:
        assert self._source is not None
        ids = self._source.encode(self.texts, add_special=False)
        return _Level(ids, self._source.encode(self.texts[:WHOLE], add_special=True), limit)

    def _levels_of(self, name: str) -> list[_Level]:
        """The source, the source without what llama.cpp lacks, and that with the steps llama.cpp runs under a name."""
        assert self._source is not None
        if len(self._levels) == 1:
            self._levels += [self._level(limit) for limit in self._source.relaxations()]
        close = pretokenizers.approximation(name, self._steps)
        if not close:
            return self._levels
        self._source.run_instead(close[0])
        return [*self._levels, self._level(close[1])]

    def _compare(self, name: str, result: dict[str, Any]) -> tuple[str, ...] | None:
        """Limits that explain every difference, or None where one remains; the first such is kept."""
        source = self._levels[0]
        differing = [
            (kind, number)
            for kind in ("ids", "whole")
            for number, ids in enumerate(getattr(source, kind))
            if ids != result[kind][number]
        ]
        levels = self._levels_of(name) if differing else []
        limits, unexplained = [], []
        for kind, number in differing:
            level = next((lvl for lvl in levels if getattr(lvl, kind)[number] == result[kind][number]), None)
            if level is None:
                unexplained.append((kind, number))
            elif level.limit not in limits:
                limits.append(level.limit)
        if not unexplained:
            return tuple(filter(None, limits))
        if len(unexplained) < self._fewest:
            kind, number = unexplained[0]
            self._fewest, self.nearest = len(unexplained), name
            self.difference = Difference(
                self.texts[number], self._spell(getattr(source, kind)[number]), self._spell(result[kind][number])
            )
        return None

    def _spell(self, ids: list[int]) -> tuple[str, ...]:
        tokens = self._vocabulary.tokens
        return tuple(tokens[token_id] if token_id < len(tokens) else f"#{token_id}" for token_id in ids)


def _words(vocabulary: Vocabulary) -> list[str]:
    """Words only this vocabulary makes interesting: tokens from all over it, and tokens that no merge makes."""
    normal = [text for text, kind in zip(vocabulary.tokens, vocabulary.types, strict=True) if kind == TokenType.NORMAL]
    chosen = _spread(normal)
    if vocabulary.merges:
        made = {merge.replace(" ", "") for merge in vocabulary.merges}
        chosen += _spread([text for text in normal if len(text) > 1 and text not in made])
        return [word for text in chosen if (word := structure.from_byte_letters(text))]
    return [text.replace("▁", " ") for text in chosen]


def _spread(texts: list[str]) -> list[str]:
    return texts[:: -(-len(texts) // MAX_WORDS) or 1]
