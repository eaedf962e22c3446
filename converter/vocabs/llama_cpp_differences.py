"""What llama.cpp does otherwise than a tokenizer.json asks, as changes that make the source do the same.

Each relaxation changes the pipeline of the source to llama.cpp's way, for good, and says so in a sentence; it returns
an empty one where the source has nothing to give up. Only what llama.cpp has no way to express is here, so a text whose
tokens agree with the changed source is explained exactly. The facts are those of llama.cpp's ``src/llama-vocab.cpp``
and ``src/unicode.cpp``.

One rule says what becomes of a difference. It is a warning where a sentence explains it and only unusual text shows it:
rare characters, decomposed letters, spaces beside special tokens, a begin token that the source leaves to the prompt.
It is a refusal where ordinary text (``probe.ordinary_texts``) that the vocabulary has tokens for gets others or lacks
what the source puts around it, or where nothing explains it. ``--pre NAME`` turns a refusal into a warning.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

from converter.vocabs.added_tokens import AddedToken
from converter.vocabs.model_proto import normalizer_model
from converter.vocabs.pipeline import Pipeline
from converter.vocabs.unexpressed import UNEXPRESSED

DOUBLE_PRECISION = "llama.cpp adds scores in double precision: of two equally likely ways to cut it may take the other"
NO_BYTES = "llama.cpp spells no unknown character as bytes with this kind of vocabulary: it is the unknown token"


def _replacing(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def struck_out(pipeline: Pipeline) -> str:
    """``</s>`` ends a text nearly everywhere; in Gemma 4's vocabulary it is HTML's, and llama.cpp has it no token."""
    if not pipeline.shows_parts or all(token.content != "</s>" for token in pipeline.added):
        return ""
    pipeline.as_text = ("</s>",)
    return "llama.cpp takes '</s>' for text where the source has a token for it"


def special_by_text(pipeline: Pipeline) -> str:
    """Some texts of vocabularies it knows are special tokens for llama.cpp, whatever the file says."""
    if not pipeline.by_text:
        return ""
    pipeline.added = [*pipeline.added, *pipeline.by_text]
    others = "and others " if len(pipeline.by_text) > 1 else ""
    return f"llama.cpp takes {pipeline.by_text[0].content!r} {others}for a special token, the source for text"


def no_composition(pipeline: Pipeline) -> str:
    if not any(part.get("type") == "NFC" for part in pipeline.normalizers):
        return ""
    pipeline.replace_part("NFC")
    return "llama.cpp does not compose characters (NFC) as the source does: decomposed text gets other tokens"


# By name: a part of a lower-cased general.name, and the tokens whose spaces llama.cpp keeps although it says so.
_STRIPPING_NAMES = ("phi-3", "phi3")
_KEPT_BESIDE = ("<unk>", "<s>", "<|endoftext|>")


def _drops_right(pipeline: Pipeline, token: AddedToken) -> bool:
    named = any(name in pipeline.name.lower() for name in _STRIPPING_NAMES)
    return named and token.content not in _KEPT_BESIDE


def spaces_kept(pipeline: Pipeline) -> str:
    """Added tokens that swallow the spaces beside them."""
    kept = [t for t in pipeline.added if t.lstrip or (t.rstrip and not _drops_right(pipeline, t))]
    pipeline.added = [
        replace(token, lstrip=False, rstrip=token.rstrip and _drops_right(pipeline, token)) for token in pipeline.added
    ]
    others = "and others " if len(kept) > 1 else ""
    return f"llama.cpp keeps the spaces around {kept[0].content!r} {others}that the source drops" if kept else ""


def spaces_dropped(pipeline: Pipeline) -> str:
    """llama.cpp goes by the model's name here, whatever its tokenizer says."""
    dropped = [token for token in pipeline.added if _drops_right(pipeline, token) and not token.rstrip]
    pipeline.added = [replace(token, rstrip=token.rstrip or token in dropped) for token in pipeline.added]
    if not dropped:
        return ""
    return f"for the name {pipeline.name!r} llama.cpp drops the spaces after special tokens, which the source keeps"


def space_first(pipeline: Pipeline) -> str:
    """Metaspace adds its space only where none is, and with "first" only to the text as a whole.

    llama.cpp adds one to the text and after every special token, whatever follows, as sentencepiece does.
    """
    spaces = [part for part in pipeline.pre_tokenizers if _adds_space(part)]
    if not spaces:
        return ""
    if pipeline.model.get("type") == "Unigram":
        if all(part.get("prepend_scheme", "always") == "always" for part in spaces):
            return ""
        scheme = "always"
    else:
        scheme = "never"
        prepend = {"type": "Prepend", "prepend": "▁"}
        pipeline.normalizers = [*pipeline.normalizers, prepend, _replacing({"String": " "}, "▁")]
    pipeline.pre_tokenizers = [
        {**part, "prepend_scheme": scheme} if part in spaces else part for part in pipeline.pre_tokenizers
    ]
    return "llama.cpp adds a space also before a text that starts with one and after special tokens"


def _adds_space(part: dict[str, Any]) -> bool:
    return part.get("type") == "Metaspace" and part.get("prepend_scheme", "always") != "never"


def no_bytes(pipeline: Pipeline) -> str:
    if pipeline.model.get("type") != "Unigram" or not pipeline.model.get("byte_fallback"):
        return ""
    pipeline.model["byte_fallback"] = False
    return NO_BYTES


def sentencepiece_rules(pipeline: Pipeline) -> str:
    """The tokenizers library applies compiled rules to what looks like one character, sentencepiece to any run."""
    compiled = next((part for part in pipeline.normalizers if part.get("type") == "Precompiled"), {})
    splits = any(part.get("type") == "WhitespaceSplit" for part in pipeline.pre_tokenizers)
    if pipeline.model.get("type") != "Unigram" or not (compiled or splits):
        return ""
    if charsmap := compiled.get("precompiled_charsmap"):
        from sentencepiece import SentencePieceNormalizer

        model = normalizer_model(base64.b64decode(charsmap))
        pipeline.before = SentencePieceNormalizer(model_proto=model).normalize
        pipeline.replace_part("Precompiled")
    at_spaces = {"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": False}
    pipeline.pre_tokenizers = [
        at_spaces if part.get("type") == "WhitespaceSplit" else part for part in pipeline.pre_tokenizers
    ]
    return "llama.cpp normalizes as sentencepiece does: combining characters and rare spaces get other tokens"


def simple_lower_case(pipeline: Pipeline) -> str:
    """The one character that Unicode lower-cases to two."""
    if not any(part.get("lowercase") or part.get("type") == "Lowercase" for part in pipeline.normalizers):
        return ""
    pipeline.normalizers = [_replacing({"String": "İ"}, "i"), *pipeline.normalizers]
    return "llama.cpp lower-cases 'İ' to 'i', without the dot that the source keeps"


def spaces_among_controls(pipeline: Pipeline) -> str:
    if not any(part.get("type") == "BertNormalizer" for part in pipeline.normalizers):
        return ""
    pipeline.normalizers = [_replacing({"Regex": "[\\x0b\\x0c\\x{85}]"}, " "), *pipeline.normalizers]
    return "llama.cpp takes the vertical tab, form feed and next line for spaces, where the source drops them"


def all_marks(pipeline: Pipeline) -> str:
    """llama.cpp keeps the first character of a canonical decomposition and drops every kind of mark (\\p{M})."""
    bert = next((part for part in pipeline.normalizers if part.get("type") == "BertNormalizer"), {})
    strips = bert.get("strip_accents")
    if not (bert.get("lowercase") if strips is None else strips):
        return ""
    # U+AC00 on: 19 leading letters, 588 syllables each.
    hangul = [
        _replacing({"Regex": f"[{chr(0xAC00 + 588 * lead)}-{chr(0xAC00 + 588 * lead + 587)}]"}, chr(0x1100 + lead))
        for lead in range(19)
    ]
    marks = [{"type": "NFD"}, _replacing({"Regex": r"\p{M}"}, "")]
    lower = [{"type": "Lowercase"}] if bert.get("lowercase") else []
    pipeline.replace_part(
        "BertNormalizer", {**bert, "strip_accents": False, "lowercase": False}, *hangul, *marks, *lower
    )
    return "llama.cpp drops all marks and all but the first letter of a Hangul syllable, where the source drops accents"


def long_words(pipeline: Pipeline) -> str:
    if pipeline.model.get("type") != "WordPiece":
        return ""
    pipeline.model["max_input_chars_per_word"] = 1 << 31
    return "llama.cpp cuts words of any length into pieces, where the source gives up on long ones"


def bars_begin_words(pipeline: Pipeline) -> str:
    if pipeline.model.get("type") != "WordPiece":
        return ""
    pipeline.normalizers = [*pipeline.normalizers, _replacing({"String": "▁"}, " ")]
    return "llama.cpp takes '▁' inside a word for the beginning of one"


RELAXATIONS = (
    *UNEXPRESSED,
    struck_out,
    special_by_text,
    no_composition,
    spaces_kept,
    spaces_dropped,
    space_first,
    no_bytes,
    sentencepiece_rules,
    spaces_among_controls,
    all_marks,
    simple_lower_case,
    long_words,
    bars_begin_words,
)
