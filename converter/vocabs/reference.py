"""The source's own tokenizer, and what it would be without the steps that llama.cpp does not have."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from converter.errors import VocabularyError
from converter.vocabs import pretokenizers, structure
from converter.vocabs.added_tokens import AddedToken
from converter.vocabs.end_of_generation import SPECIAL_BY_TEXT
from converter.vocabs.files import TEKKEN, TokenizerFiles
from converter.vocabs.llama_cpp_differences import DOUBLE_PRECISION, NO_BYTES, RELAXATIONS
from converter.vocabs.model_proto import ModelProto, read_model_proto
from converter.vocabs.pipeline import Around, Pipeline
from converter.vocabs.source_tokenizer import Ids, Reference


def open_reference(files: TokenizerFiles, name: str = "") -> Reference:
    """The tokenizer of tokenizer.json, of tekken.json, or of tokenizer.model where there is no other.

    Args:
        files: the tokenizer's files.
        name: the ``general.name`` of the file to compare with; llama.cpp makes exceptions for some.
    """
    if files.tokenizer:
        return TokenizerJson(files, name)
    if (files.directory / TEKKEN).is_file():
        from converter.vocabs.tekken import Tekken

        return Tekken(files.directory / TEKKEN)
    if files.has_tiktoken_model:
        from converter.vocabs.tiktoken import Tiktoken

        return Tiktoken(files)
    return Sentencepiece(files)


def encode_levels(files: dict[str, Any], texts: list[str], whole: list[bool], name: str) -> dict[str, Any]:
    """The source's side of the proof. Runs in a process of its own, so that its memory is not the conversion's.

    Args:
        files: ``TokenizerFiles.as_request``.
        texts: what to tokenize.
        whole: for each text, whether begin and end tokens are added to it.
        name: ``general.name`` of the file to compare with.

    Returns:
        ``levels``: pairs of token ids (a list for each text) and what was given up for them, the first with nothing
        given up; ``close``: for names of pre-tokenizers that are only close to the source's, such a pair; ``added``:
        pairs of id and text of the added tokens; ``suspects``: what may be the reason where no level agrees. Or
        ``refused``: why the source's files cannot be used.
    """

    def encode() -> Ids:
        ids = {flag: iter(reference.encode(chosen[flag], add_special=flag)) for flag in chosen}
        return [next(ids[flag]) for flag in whole]

    chosen = {flag: [text for text, other in zip(texts, whole, strict=True) if other is flag] for flag in (False, True)}
    try:
        reference = open_reference(TokenizerFiles.from_request(files), name)
        added = list(reference.added().items())
        levels = [(encode(), "")]
        levels += [(encode(), limit) for limit in reference.relaxations()]
        close = {}
        for name_, (steps, limit) in pretokenizers.approximations(reference.steps()).items():
            reference.run_instead(steps)
            close[name_] = (encode(), limit)
    except VocabularyError as error:
        return {"refused": str(error)}
    return {"levels": levels, "close": close, "added": added, "suspects": reference.suspects()}


class TokenizerJson(Reference):
    """tokenizer.json, run by the ``tokenizers`` library."""

    def __init__(self, files: TokenizerFiles, name: str = "") -> None:
        from tokenizers import Tokenizer

        self._path = path = files.tokenizer_file
        try:
            self._tokenizer = Tokenizer.from_str(files.built) if files.built else Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            reason = " ".join(str(error).split())
            raise VocabularyError(f"{path}: not a tokenizer the tokenizers library can read ({reason})") from error
        self._source = files.tokenizer
        self._pipeline = Pipeline.of(files, name)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        if getattr(self._tokenizer.model, "dropout", None):
            self._tokenizer.model.dropout = None
        # What tokenizer_config.json adds or describes otherwise; the library gives the ids.
        self._add(files.added_tokens)
        known = {text: self._tokenizer.token_to_id(text) for text in sorted(SPECIAL_BY_TEXT)}
        declared = {token.content for token in files.added_tokens}
        self._pipeline.by_text = tuple(
            AddedToken(token_id, text, special=True)
            for text, token_id in known.items()
            if token_id is not None and text not in declared
        )
        around = self._around()
        self._pipeline.around = around
        ids = {token_id for part in (*around, *self._pipeline.own_around) for token_id in part}
        self._pipeline.spellings = {token_id: self._tokenizer.id_to_token(token_id) or "" for token_id in ids}

    def encode(self, texts: Sequence[str], *, add_special: bool) -> Ids:
        before, around = self._pipeline.before, self._pipeline.put_around
        try:
            encodings = self._tokenizer.encode_batch_fast(
                [before(text) for text in texts] if before else list(texts),
                add_special_tokens=add_special and around is None,
            )
        except Exception as error:  # as above
            reason = " ".join(str(error).split())
            raise VocabularyError(f"{self._path}: the tokenizer does not tokenize ({reason})") from error
        begin, end = around if add_special and around else ((), ())
        return [[*begin, *encoding.ids, *end] for encoding in encodings]

    def _around(self) -> Around:
        """Ids that the post-processor puts before and after a text; llama.cpp's own where it is not as simple."""
        (plain,), (whole,) = (self.encode(["a"], add_special=flag) for flag in (False, True))
        for start in range(len(whole) - len(plain) + 1):
            end = start + len(plain)
            if whole[start:end] == plain:
                return tuple(whole[:start]), tuple(whole[end:])
        return self._pipeline.own_around

    def added(self) -> dict[int, str]:
        return {token_id: token.content for token_id, token in self._tokenizer.get_added_tokens_decoder().items()}

    def suspects(self) -> list[str]:
        steps = tuple(step for step in self.steps() if step != structure.SPACE_FIRST)
        if not steps or pretokenizers.is_known(steps):
            return []
        odd = next((step for step in steps if not pretokenizers.is_known((step,))), " then ".join(steps))
        return [f"its pre-tokenizer splits text by '{odd}', which none of llama.cpp's does in this way"]

    def relaxations(self) -> Iterator[str]:
        for relax in RELAXATIONS:
            pipeline = self._pipeline
            added, settings = pipeline.added, dict(pipeline.model)
            if not (limit := relax(pipeline)):
                continue
            self._set("normalizer", {"type": "Sequence", "normalizers": pipeline.normalizers})
            self._set("pre_tokenizer", {"type": "Sequence", "pretokenizers": pipeline.pre_tokenizers})
            for setting in pipeline.model:
                if pipeline.model[setting] != settings.get(setting):
                    self._set_model(setting, pipeline.model[setting])
            self._add(token for token in pipeline.added if token not in added)
            self._drop(pipeline.as_text)
            yield limit

    def steps(self) -> tuple[str, ...]:
        return structure.steps(self._source) if structure.is_byte_level(self._source) else ()

    def run_instead(self, steps: tuple[str, ...]) -> None:
        split = {"type": "Split", "behavior": "Isolated", "invert": False}
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        parts = [*({**split, "pattern": {"Regex": step}} for step in steps), byte_level]
        self._set("pre_tokenizer", {"type": "Sequence", "pretokenizers": parts})

    def _add(self, tokens: Iterable[AddedToken]) -> None:
        import tokenizers

        self._tokenizer.add_tokens([tokenizers.AddedToken(token.content, **token.marks) for token in tokens])

    def _drop(self, texts: tuple[str, ...]) -> None:
        if not {token.content for token in self._tokenizer.get_added_tokens_decoder().values()}.isdisjoint(texts):
            description = json.loads(self._tokenizer.to_str())
            kept = [token for token in description["added_tokens"] if token["content"] not in texts]
            self._tokenizer = self._tokenizer.from_str(json.dumps({**description, "added_tokens": kept}))

    def _set(self, name: str, description: dict[str, Any]) -> None:
        """Replace a component. The library builds one from its description only when unpickling."""
        from tokenizers import normalizers, pre_tokenizers

        empty = normalizers.Sequence([]) if name == "normalizer" else pre_tokenizers.Sequence([])
        empty.__setstate__(json.dumps(description).encode())
        setattr(self._tokenizer, name, empty)

    def _set_model(self, setting: str, value: Any) -> None:
        description = json.loads(self._tokenizer.to_str())
        description["model"][setting] = value
        self._tokenizer = self._tokenizer.from_str(json.dumps(description))


_SUSPECTS: tuple[tuple[Callable[[ModelProto], bool], str], ...] = (
    (
        lambda proto: proto.model_type == "BPE" and bool(proto.charsmap),
        "the model has rules of normalization (normalization_rule_name), which llama.cpp has only for Unigram models",
    ),
    (
        lambda proto: proto.model_type == "BPE" and proto.remove_extra_whitespaces,
        "the model drops repeated spaces (remove_extra_whitespaces), which llama.cpp keeps",
    ),
    (
        lambda proto: proto.whitespace_as_suffix,
        "the model has its spaces at the end of words (treat_whitespace_as_suffix)",
    ),
    (
        lambda proto: proto.model_type == "Unigram" and not proto.add_dummy_prefix,
        "the model puts no space before a text (add_dummy_prefix), which llama.cpp's Unigram needs",
    ),
)


class Sentencepiece(Reference):
    """tokenizer.model, run by the ``sentencepiece`` library on the text between special and added tokens."""

    def __init__(self, files: TokenizerFiles) -> None:
        from sentencepiece import SentencePieceProcessor

        path = files.sentencepiece_model
        try:
            self._processor = SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise VocabularyError(f"{path}: not a model the sentencepiece library can read; fetch it again") from error
        # Unknown, control and user-defined pieces are matched whole, as in transformers' conversion of such a model
        # (convert_slow_tokenizer.py, SpmConverter); the library alone would take the text of the first two for text.
        proto = read_model_proto(path)
        pieces = enumerate(proto.pieces)
        self._whole = {text.replace("▁", " "): token_id for token_id, (text, _, kind) in pieces if kind in (2, 3, 4)}
        self._whole |= {token.content: token.id for token in files.numbered_after(proto.places, renames=True)}
        longest_first = sorted(self._whole, key=len, reverse=True)
        self._split = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        settings = files.settings
        # transformers begins a text for Llama's kind of model and ends it for T5's.
        begins = settings.get("add_bos_token", proto.model_type == "BPE")
        ends = settings.get("add_eos_token", proto.model_type == "Unigram")
        self._begin = [self._processor.bos_id()] if begins else []
        self._end = [self._processor.eos_id()] if ends else []
        self._proto = proto
        self._segment: Callable[[str], list[int]] = self._processor.encode

    def encode(self, texts: Sequence[str], *, add_special: bool) -> Ids:
        begin, end = (self._begin, self._end) if add_special else ([], [])
        return [[*begin, *self._encode(text), *end] for text in texts]

    def _encode(self, text: str) -> Iterator[int]:
        for part in self._split.split(text) if self._whole else [text]:
            if part in self._whole:
                yield self._whole[part]
            elif part:
                yield from self._segment(part)

    def suspects(self) -> list[str]:
        return [sentence for rule, sentence in _SUSPECTS if rule(self._proto)]

    def relaxations(self) -> Iterator[str]:
        if self._proto.model_type != "Unigram":
            return
        # The tokenizers library adds scores as llama.cpp does, and sentencepiece prepares the text as ever.
        for byte_fallback in (self._proto.byte_fallback, False) if self._proto.byte_fallback else (False,):
            self._segment = self._double_precision(byte_fallback)
            yield NO_BYTES if self._proto.byte_fallback and not byte_fallback else DOUBLE_PRECISION

    def _double_precision(self, byte_fallback: bool) -> Callable[[str], list[int]]:
        from tokenizers import Tokenizer, models

        pieces = [(text, score) for text, score, _ in self._proto.pieces]
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=self._proto.ids["unk"], byte_fallback=byte_fallback))
        return lambda text: list(tokenizer.encode(self._processor.normalize(text)).ids)
