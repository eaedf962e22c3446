"""The proof that a written vocabulary gives the source's tokens."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gguf import TokenType

from converter.errors import EnvironmentFailure, VocabularyError
from converter.runtime import IsolatedFailure, run_isolated
from converter.runtime.environment import environment_failure
from converter.vocabs import pretokenizers, structure
from converter.vocabs.files import read_tokenizer_files
from converter.vocabs.llama_cpp_differences import DOUBLE_PRECISION
from converter.vocabs.probe import ordinary_texts, probe_texts
from converter.vocabs.tokenizer_kinds import read_files
from converter.vocabs.vocab_only_gguf import write_vocabulary
from converter.vocabs.vocabulary import BYTE, Vocabulary
from converter.vocabs.written import check_added, check_written

Ids = list[list[int]]

# Texts also compared with begin and end tokens added; these do not depend on the text.
WHOLE = 8
# One probe in so many is enough to discard most of the names that are only tried because the likely one failed.
SIEVE = 8
# Tokens no merge makes that are put to the test as words of their own.
MAX_WORDS = 256


@dataclass(frozen=True)
class Difference:
    """One text and what each side made of it, as token texts; ``cause`` is a sentence where it is known."""

    text: str
    source: tuple[str, ...]
    llama_cpp: tuple[str, ...]
    cause: str = ""

    def __str__(self) -> str:
        source, ours = (" ".join(map(repr, tokens[:12])) or "nothing" for tokens in (self.source, self.llama_cpp))
        seen = f"{self.text[:60]!r} is {source} for the source and {ours} for llama.cpp"
        return f"{self.cause}; ordinary text shows it: {seen}" if self.cause else seen


@dataclass(frozen=True)
class Finding:
    """Every difference under a name, explained.

    Attributes:
        limits: the sentences that explain differences, each once.
        serious: of the differences that ordinary text shows, that of the shortest text; None where only unusual text
            shows any.
    """

    limits: tuple[str, ...]
    serious: Difference | None = None


@dataclass(frozen=True)
class TokenizerProof:
    """What the proof found.

    Attributes:
        vocabulary: with the name of the pre-tokenizer that was proved.
        probes: texts compared.
        agreeing: every text got the same tokens from both.
        difference: the first text that did not, with the cause if it is known, where a name was forced on the
            vocabulary.
        limits: what llama.cpp cannot do that the source does, one sentence each; texts that show it were compared with
            the source without that step.
        answers: what the source made of the texts.
    """

    vocabulary: Vocabulary
    probes: int
    agreeing: bool
    difference: Difference | None = None
    limits: tuple[str, ...] = ()
    answers: _Trial | None = field(default=None, repr=False, compare=False)

    @property
    def asked(self) -> list[tuple[str, bool]]:
        """The texts, and for each whether begin and end tokens are added to it."""
        return self.answers.probes if self.answers else []

    def difference_of(self, ids: Ids) -> Difference | None:
        """Hold what a finished file with this vocabulary makes of the texts against what the source made of them.

        Args:
            ids: tokens of each text of ``asked``.

        Returns:
            The first difference that no limit explains; None where there is none.
        """
        assert self.answers is not None
        return self.answers.difference_of(self.vocabulary.pre, ids)

    def check_written(self, path: Path, changed: Collection[str] = ()) -> None:
        """Hold everything else that a finished file says of its tokenizer against the source's files.

        Args:
            path: the GGUF file, made of this vocabulary.
            changed: keys that the user decided otherwise.

        Raises:
            VocabularyError: a key is missing or differs; it is named, with both values.
        """
        check_written(path, self.vocabulary, changed=changed)


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


def prove(vocabulary: Vocabulary, directory: Path, *, name: str = "") -> TokenizerProof:
    """Show that llama.cpp, given this vocabulary, makes the tokens the source makes.

    The candidates are tried first, then every other pre-tokenizer llama.cpp has. A name that was given is the only one
    tried, and a difference is reported instead of refused.

    Args:
        vocabulary: what will be written.
        directory: the source's tokenizer files.
        name: the ``general.name`` it will be written with; llama.cpp treats the spaces beside special tokens of models
            with "phi-3" in their name as that family's tokenizer does.

    Raises:
        VocabularyError: under no name do the two agree; the message shows the first text that differs.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "vocabulary.gguf"
        trial = _Trial(path, vocabulary, directory, name)
        write_vocabulary(path, vocabulary, name)
        found = _first(trial.explained([vocabulary.pre])) if vocabulary.pre else None
        if not (found or trial.failure or vocabulary.given) and vocabulary.model == "gpt2":
            names = [pre for pre in vocabulary.candidates if pre != vocabulary.pre]
            names += pretokenizers.other_names([vocabulary.pre, *names])
            for pre in trial.explained(names, sieve=SIEVE):
                if found := _first(trial.explained([pre])):
                    break
    pre, finding = found or (vocabulary.pre, None)
    if finding and not finding.serious:
        check_added(vocabulary, trial.added())
        limits = (*vocabulary.limits, *finding.limits)
        return TokenizerProof(replace(vocabulary, pre=pre), trial.texts, True, limits=limits, answers=trial)
    difference = finding.serious if finding else trial.difference
    if vocabulary.given:
        return TokenizerProof(vocabulary, trial.texts, False, difference, vocabulary.limits, trial)
    raise VocabularyError(_refusal(vocabulary, directory, trial, pre, difference))


def _refusal(vocabulary: Vocabulary, directory: Path, trial: _Trial, pre: str, difference: Difference | None) -> str:
    where = vocabulary.files.tokenizer_file if vocabulary.files and vocabulary.files.tokenizer else directory
    if difference is None:
        return f"{directory}: llama.cpp does not load this vocabulary{trial.failure and ': '}{trial.failure}"
    if difference.cause:
        return f"{where}: {difference}; --pre {pre} writes the file anyway"
    suspects = "".join(f"; {suspect}" for suspect in trial.suspects())
    if vocabulary.model != "gpt2":
        return (
            f"{where}: llama.cpp cannot give the source's tokens with a {vocabulary.model!r} vocabulary: "
            f"{difference}{suspects}; --pre {pre} writes the file anyway"
        )
    return (
        f"{where}: none of llama.cpp's pre-tokenizers gives the source's tokens; with {trial.nearest!r} "
        f"{difference}{suspects}; --pre {trial.nearest} writes the file anyway"
    )


def prove_file(path: Path, directory: Path, *, changed: Collection[str] = ()) -> TokenizerProof:
    """The same proof for a finished GGUF file, as it stands.

    Args:
        path: the GGUF file.
        directory: the source's tokenizer files.
        changed: keys under ``tokenizer.`` that the user decided otherwise.

    Raises:
        VocabularyError: llama.cpp cannot load the file's vocabulary, or a chat template, a special id or what is added
            around a text is not the source's.
    """
    try:
        loaded = _load(path, [""], [])[0]
    except IsolatedFailure as error:
        raise environment_failure(error) or VocabularyError(
            f"{path}: llama.cpp does not survive loading the file: {error}"
        ) from error
    if loaded is None:
        raise VocabularyError(f"{path}: llama.cpp does not load the file's vocabulary; convert the model again")
    vocabulary = read_files(directory, loaded["tokens"])
    check_written(path, vocabulary, made_here=False, changed=changed)
    trial = _Trial(path, vocabulary, directory, loaded["name"])
    found = _first(trial.explained([""]))
    finding = found[1] if found else None
    if finding is None or finding.serious:
        return TokenizerProof(vocabulary, trial.texts, False, finding.serious if finding else trial.difference)
    return TokenizerProof(vocabulary, trial.texts, True, limits=finding.limits)


def _first(found: dict[str, Finding]) -> tuple[str, Finding] | None:
    return next(iter(found.items()), None)


def _load(path: Path, names: Sequence[str], probes: Sequence[tuple[str, bool]]) -> list[dict[str, Any] | None]:
    """llama.cpp's answers (``llama_cpp_tokenizer.tokenize``). Raises IsolatedFailure where it ends its process."""
    texts, whole = [text for text, _ in probes], [add_special for _, add_special in probes]
    answers: list[dict[str, Any] | None] = run_isolated(
        "converter.vocabs.llama_cpp_tokenizer:tokenize", path=str(path), names=list(names), texts=texts, whole=whole
    )
    return answers


class _Trial:
    """One file, one source, and the probes put to both: texts, and whether begin and end tokens are added.

    Attributes:
        probes: every text without what is added, then the first of them with it.
        nearest: the name under which llama.cpp came nearest to the source without agreeing.
        difference: the first difference under that name.
        failure: how llama.cpp ended its process, where it did.
    """

    def __init__(self, path: Path, vocabulary: Vocabulary, directory: Path, name: str) -> None:
        texts = probe_texts(vocabulary.special_texts, _words(vocabulary))
        self.texts = len(texts)
        self._ordinary = ordinary_texts(vocabulary.special_texts)
        self.probes = [*((text, False) for text in texts), *((text, True) for text in texts[:WHOLE])]
        self.nearest = ""
        self.difference: Difference | None = None
        self.failure = ""
        self._worst = 1.0
        self._path = path
        self._vocabulary = vocabulary
        files = vocabulary.files
        self._files = files if files and files.directory == directory else read_tokenizer_files(directory)
        self._name = name
        # The source tokenizes while the file is written and llama.cpp loads it.
        pool = ThreadPoolExecutor(1)
        self._source = pool.submit(self._ask_source)
        pool.shutdown(wait=False)

    def explained(self, names: Sequence[str], *, sieve: int = 1) -> dict[str, Finding]:
        """Names under which every difference on every ``sieve``-th probe is explained, and how."""
        numbers = range(0, len(self.probes), sieve)
        results = self._ask(names, [self.probes[number] for number in numbers])
        compared = {
            name: self._compare(name, numbers, result["ids"])
            for name, result in zip(names, results, strict=True)
            if result is not None
        }
        return {name: finding for name, finding in compared.items() if finding is not None}

    @property
    def source_ids(self) -> Ids:
        """The source's tokens of each probe."""
        ids: Ids = self._source.result()["levels"][0][0]
        return ids

    def added(self) -> dict[int, str]:
        """The source's added tokens by id."""
        return dict(self._source.result()["added"])

    def suspects(self) -> list[str]:
        """What may explain differences that nothing explains exactly, a sentence each."""
        return list(self._source.result()["suspects"])

    def difference_of(self, name: str, ids: Ids) -> Difference | None:
        """The first difference of these tokens of all probes, made under a name, that must not be."""
        self._worst, self.difference = 1.0, None
        finding = self._compare(name, range(len(self.probes)), ids)
        return finding.serious if finding else self.difference

    def _ask(self, names: Sequence[str], probes: list[tuple[str, bool]]) -> list[dict[str, Any] | None]:
        """Answers for the names; where one of them ends llama.cpp's process, the others still get theirs."""
        try:
            return _load(self._path, names, probes)
        except IsolatedFailure as error:
            if (environment := environment_failure(error)) is not None:
                raise EnvironmentFailure(f"the vocabulary cannot be proved: {environment}") from error
            self.failure = str(error)
            return [None] if len(names) == 1 else [answer for name in names for answer in self._ask([name], probes)]

    def _ask_source(self) -> dict[str, Any]:
        """The source's answers (``reference.encode_levels``)."""
        texts, whole = [text for text, _ in self.probes], [add_special for _, add_special in self.probes]
        answer: dict[str, Any] = run_isolated(
            "converter.vocabs.reference:encode_levels",
            files=self._files.as_request(),
            texts=texts,
            whole=whole,
            name=self._name,
        )
        if "refused" in answer:
            raise VocabularyError(answer["refused"])
        return answer

    def _compare(self, name: str, numbers: Sequence[int], ids: Ids) -> Finding | None:
        """What explains the differences, or None where one remains."""
        answer = self._source.result()
        levels: list[tuple[Ids, str]] = answer["levels"]
        source, _ = levels[0]
        if close := answer["close"].get(pretokenizers.first_name(name)):
            levels = [*levels, close]
        limits, unexplained = [], []
        serious: list[Difference] = []
        for number, given in zip(numbers, ids, strict=True):
            limit = next((said for expected, said in levels if expected[number] == given), None)
            if limit is None:
                unexplained.append(number)
            elif limit:
                if limit not in limits:
                    limits.append(limit)
                if self._is_serious(number, source[number], given, limit):
                    serious.append(self._difference(number, source[number], given, limit))
        if not unexplained:
            return Finding(tuple(limits), min(serious, key=lambda found: len(found.text), default=None))
        if len(unexplained) / len(ids) <= self._worst:
            first = unexplained[0]
            self._worst, self.nearest = len(unexplained) / len(ids), name
            self.difference = self._difference(first, source[first], ids[numbers.index(first)])
        return None

    def _is_serious(self, number: int, source: list[int], given: list[int], limit: str) -> bool:
        """Whether a difference with an explanation must not be (the rule of ``llama_cpp_differences``)."""
        text, whole = self.probes[number]
        only_more_before = whole and given[len(given) - len(source) :] == source
        if text not in self._ordinary or limit == DOUBLE_PRECISION or only_more_before:
            return False
        return not any(map(self._stands_for_no_text, source))

    def _stands_for_no_text(self, token_id: int) -> bool:
        """Whether a token is what a vocabulary has for text that it has no token for."""
        tokens, types = self._vocabulary.tokens, self._vocabulary.types
        if token_id >= len(tokens):
            return False
        return types[token_id] == TokenType.UNKNOWN or BYTE.fullmatch(tokens[token_id]) is not None

    def _difference(self, number: int, source: list[int], given: list[int], cause: str = "") -> Difference:
        return Difference(self.probes[number][0], self._spell(source), self._spell(given), cause)

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
    if vocabulary.model == "gpt2":
        return [word for text in chosen if (word := structure.from_byte_letters(text))]
    return [text.replace("▁", " ") for text in chosen]


def _spread(texts: list[str]) -> list[str]:
    return texts[:: -(-len(texts) // MAX_WORDS) or 1]
