"""Parts of a tokenizer.json that llama.cpp has nothing for, as changes that leave them out.

Beside ``llama_cpp_differences``, which tells where llama.cpp does a step in another way, these are steps that it does
not do at all: a normalizer, a mark of an added token, an entry of the post-processor. Each function gives one up and
says so in a sentence, or returns an empty one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from converter.vocabs.pipeline import Pipeline

_Part = dict[str, Any]


def _is_bar(part: _Part) -> bool:
    return part.get("content") == "▁" and part.get("pattern") == {"String": " "}


def _is_run_of_spaces(part: _Part) -> bool:
    return part.get("pattern") == {"Regex": " {2,}"}


# By kind of vocabulary, the normalizers that a GGUF file can ask for, and when.
_NORMALIZERS: dict[str, dict[str, Callable[[_Part], bool]]] = {
    "byte-level": {},
    "BPE": {"Prepend": lambda part: part.get("prepend") == "▁", "Replace": _is_bar},
    "Unigram": {
        "Precompiled": lambda _: True,
        "Strip": lambda _: True,
        "Replace": lambda part: _is_run_of_spaces(part) or _is_bar(part),
        "Prepend": lambda part: part.get("prepend") == "▁",
    },
    "WordPiece": dict.fromkeys(("BertNormalizer", "Lowercase", "StripAccents", "NFD"), lambda _: True),
}
# The same of pre-tokenizers; those of byte-level vocabularies are known by name (``pretokenizers``).
_PRE_TOKENIZERS: dict[str, dict[str, Callable[[_Part], bool]]] = {
    "BPE": {
        "Metaspace": lambda _: True,
        # After the normalizer there are no spaces to split at.
        "Split": lambda part: part.get("pattern") == {"String": " "},
    },
    "Unigram": {"Metaspace": lambda _: True, "WhitespaceSplit": lambda _: True},
    "WordPiece": {"BertPreTokenizer": lambda _: True},
}


def other_normalizers(pipeline: Pipeline) -> str:
    known = _NORMALIZERS[pipeline.kind]
    others = [part for part in pipeline.normalizers if not _expressed(part, known)]
    # Composition is ``llama_cpp_differences.no_composition``'s.
    others = [part for part in others if part.get("type") != "NFC"]
    if not others:
        return ""
    pipeline.normalizers = [part for part in pipeline.normalizers if part not in others]
    named = ", ".join(map(_described, others))
    return f"llama.cpp has no counterpart of the source's normalizer {named} for a {pipeline.kind} vocabulary"


def other_pre_tokenizers(pipeline: Pipeline) -> str:
    known = _PRE_TOKENIZERS.get(pipeline.kind)
    if known is None:
        return ""
    others = [part for part in pipeline.pre_tokenizers if not _expressed(part, known)]
    if pipeline.kind == "WordPiece":
        if not others and pipeline.pre_tokenizers:
            return ""
        pipeline.pre_tokenizers = [{"type": "BertPreTokenizer"}]
    elif not others:
        return ""
    else:
        pipeline.pre_tokenizers = [part for part in pipeline.pre_tokenizers if part not in others]
    named = ", ".join(map(_described, others)) or "which splits nothing"
    return f"llama.cpp has no counterpart of the source's pre-tokenizer {named} for a {pipeline.kind} vocabulary"


def no_space_first(pipeline: Pipeline) -> str:
    """A byte-level vocabulary: llama.cpp reads ``add_space_prefix``, but only sentencepiece's kinds obey it."""
    adding = [part for part in pipeline.pre_tokenizers if _adds_space(part)]
    if pipeline.kind != "byte-level" or not adding:
        return ""
    pipeline.pre_tokenizers = [
        {**part, "add_prefix_space": False} if part in adding else part for part in pipeline.pre_tokenizers
    ]
    return "llama.cpp puts no space before a text with a byte-level vocabulary, as the source does (add_prefix_space)"


def _adds_space(part: _Part) -> bool:
    return part.get("type") == "ByteLevel" and part.get("add_prefix_space", True) is True


def inside_words(pipeline: Pipeline) -> str:
    whole = [token for token in pipeline.added if token.single_word]
    pipeline.added = [replace(token, single_word=False) for token in pipeline.added]
    if not whole:
        return ""
    others = "and others " if len(whole) > 1 else ""
    return (
        f"llama.cpp finds the added token {whole[0].content!r} {others}inside longer words, too, which the source "
        "does not (single_word)"
    )


def as_they_are(pipeline: Pipeline) -> str:
    """Added tokens that the source looks for in normalized text; with no normalizer that is the text as it is."""
    normalized = [token for token in pipeline.added if token.normalized]
    if not normalized or not pipeline.normalizers:
        return ""
    pipeline.added = [replace(token, normalized=False) for token in pipeline.added]
    others = "and others " if len(normalized) > 1 else ""
    return (
        f"llama.cpp looks for the added token {normalized[0].content!r} {others}in the text as it is, the source in "
        "normalized text (normalized)"
    )


def bert_cleans(pipeline: Pipeline) -> str:
    return _always(pipeline, "clean_text", "drops control characters")


def bert_splits_chinese(pipeline: Pipeline) -> str:
    return _always(pipeline, "handle_chinese_chars", "takes every Chinese character for a word of its own")


def _always(pipeline: Pipeline, option: str, does: str) -> str:
    parts = [part for part in pipeline.normalizers if part.get("type") == "BertNormalizer"]
    if all(part.get(option, True) for part in parts):
        return ""
    pipeline.replace_part("BertNormalizer", *({**part, option: True} for part in parts))
    return f"llama.cpp {does}, which the source does not ({option})"


def other_template(pipeline: Pipeline) -> str:
    """What the post-processor puts around a text, where it is not the begin and the end token that a file can name."""
    if pipeline.around == pipeline.own_around:
        return ""
    (before, after), (own_before, own_after) = pipeline.around, pipeline.own_around
    pipeline.put_around = pipeline.own_around
    if not before and after == own_after:
        return "llama.cpp begins every text with the begin token, which the source leaves to the prompt"
    said = []
    if before != own_before:
        said.append(f"begins every text with {pipeline.spell(before)}, llama.cpp with {pipeline.spell(own_before)}")
    if after != own_after:
        said.append(f"ends every text with {pipeline.spell(after)}, llama.cpp with {pipeline.spell(own_after)}")
    return f"the source's post-processor {' and '.join(said)}"


def _expressed(part: _Part, known: dict[str, Callable[[_Part], bool]]) -> bool:
    kind = str(part.get("type"))
    return kind in known and known[kind](part)


def _described(part: _Part) -> str:
    """``Lowercase``, ``Strip(right)``, ``Replace('a' by 'b')``."""
    kind = str(part.get("type"))
    if kind == "Strip":
        sides = [side for side in ("left", "right") if part.get(f"strip_{side}", True)]
        return f"Strip({', '.join(sides)})"
    if kind == "Replace":
        pattern = part.get("pattern")
        (found,) = pattern.values() if isinstance(pattern, dict) and len(pattern) == 1 else ("?",)
        return f"Replace({str(found)[:20]!r} by {str(part.get('content'))[:20]!r})"
    if kind == "Prepend":
        return f"Prepend({str(part.get('prepend'))[:20]!r})"
    return kind


UNEXPRESSED = (
    other_normalizers,
    other_pre_tokenizers,
    no_space_first,
    inside_words,
    as_they_are,
    bert_cleans,
    bert_splits_chinese,
    other_template,
)
