"""What a tokenizer.json does to a text before its merges, in a form that can be compared.

A pre-tokenizer becomes a tuple of steps. Each step is a regular expression whose matches are isolated, spelled in one
way whatever the file's spelling, or a word in angle brackets for what no expression says. Byte-level encoding itself
is no step: every vocabulary of this kind has it.
"""

from __future__ import annotations

import re
from typing import Any

from converter.errors import VocabularyError
from converter.vocabs.files import expect

# What ByteLevel splits by when it is asked to (tokenizers, pre_tokenizers/byte_level.rs).
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PUNCTUATION_RUNS = "<punctuation runs>"
#: A space before the text, which llama.cpp does not put before one of this kind.
SPACE_FIRST = "<space first>"

#: Special tokens around the parts of a reply (thoughts, calls of tools and their answers, text in quotes). A tokenizer
#: that has them is Gemma 4's, for which llama.cpp has a tokenizer model of its own that writes them out, to be parsed.
SHOWN = frozenset({
    "<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>',
})  # fmt: skip

_CONTRACTIONS = frozenset({"s", "t", "re", "ve", "m", "ll", "d"})
_ANY_CASE = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"


def is_byte_level(tokenizer: dict[str, Any]) -> bool:
    """Whether a tokenizer.json encodes text as bytes spelled with printable letters, as GPT-2 does."""
    return any(step.get("type") == "ByteLevel" for step in _flatten(tokenizer.get("pre_tokenizer"), "pretokenizers"))


def steps(tokenizer: dict[str, Any]) -> tuple[str, ...]:
    """The pre-tokenizer's steps in canonical form. Raises VocabularyError where it isn't one."""
    found = []
    for step in _flatten(tokenizer.get("pre_tokenizer"), "pretokenizers"):
        kind = step.get("type")
        if kind == "ByteLevel":
            found += [SPACE_FIRST] if step.get("add_prefix_space", True) else []
            found += [GPT2] if step.get("use_regex", True) else []
        elif kind == "Digits":
            found.append(r"\p{N}" if step.get("individual_digits") else r"\p{N}+")
        elif kind == "Punctuation" and step.get("behavior") == "Contiguous":
            found.append(PUNCTUATION_RUNS)
        elif kind == "Split":
            found.append(_split(step))
        else:
            found.append(f"<{kind} {step.get('behavior', '')}>")
    return tuple(found)


def shows_parts(tokenizer: dict[str, Any]) -> bool:
    """Whether a tokenizer.json merges text whose spaces are ``▁`` and has tokens of ``SHOWN``."""
    model, added = tokenizer.get("model"), tokenizer.get("added_tokens")
    if not isinstance(model, dict) or not isinstance(added, list) or not model.get("byte_fallback"):
        return False
    texts = {str(token.get("content")) for token in added if isinstance(token, dict)}
    return model.get("type", "BPE") == "BPE" and not SHOWN.isdisjoint(texts)


def normalizers(tokenizer: dict[str, Any]) -> list[dict[str, Any]]:
    """The normalizer's parts, in order."""
    return _flatten(tokenizer.get("normalizer"), "normalizers")


def pre_tokenizers(tokenizer: dict[str, Any]) -> list[dict[str, Any]]:
    """The pre-tokenizer's parts, in order."""
    return _flatten(tokenizer.get("pre_tokenizer"), "pretokenizers")


def prefixes_space(tokenizer: dict[str, Any]) -> bool:
    """Whether a tokenizer.json puts a space before the text, in its normalizer or its pre-tokenizer."""
    if any(part.get("type") == "Prepend" for part in normalizers(tokenizer)):
        return True
    return any(
        part.get("type") == "Metaspace" and part.get("prepend_scheme", "always") != "never"
        for part in pre_tokenizers(tokenizer)
    )


def _flatten(component: Any, parts: str) -> list[dict[str, Any]]:
    """The parts of a Sequence, of Sequences in it, or the component alone."""
    if component is None:
        return []
    component = expect(component, dict, f"tokenizer.json: {parts[:-1]}")
    if component.get("type") != "Sequence":
        return [component]
    inner = expect(component.get(parts), list, f"tokenizer.json: {parts}")
    return [step for part in inner for step in _flatten(part, parts)]


def _split(step: dict[str, Any]) -> str:
    pattern = expect(step.get("pattern"), dict, "tokenizer.json: pattern of a Split")
    regex = pattern.get("Regex")
    if regex is None:
        regex = re.escape(expect(pattern.get("String"), str, "tokenizer.json: String of a Split"))
    regex = canonical_regex(expect(regex, str, "tokenizer.json: Regex of a Split"))
    behavior, invert = step.get("behavior"), step.get("invert", False)
    # Keeping only the matches of an expression that matches everything is isolating them.
    if (behavior == "Isolated" and not invert) or (behavior == "Removed" and invert):
        return regex
    return f"<{behavior}{' inverted' if invert else ''}> {regex}"


def canonical_regex(regex: str) -> str:
    """One spelling for expressions that mean the same.

    Line ends become escapes, ``{1}`` is dropped, possessive quantifiers become greedy (what follows them here never
    makes the difference), and every spelling of the English contractions becomes ``(?i:'s|'t|'re|'ve|'m|'ll|'d)``.
    """
    regex = regex.replace("\r", r"\r").replace("\n", r"\n").replace("{1}", "")
    regex = re.sub(r"(?<=[\]}][?*+])\+", "", regex)
    return re.sub(r"'?\(\?i?:(?:[^()]|\(\?:[^()]*\))*\)", _contractions, regex)


def _contractions(match: re.Match[str]) -> str:
    group = match[0]
    outside, inner = group.split("(", 1)
    any_case = inner.startswith("?i:")
    inner = inner.split(":", 1)[1][:-1]
    if inner.startswith("'(?:"):
        outside, inner = "'", inner[4:-1]
    endings = set()
    for alternative in inner.split("|"):
        text = outside + alternative
        if not text.startswith("'"):
            return group
        endings |= _spelled(text[1:], any_case)
    return _ANY_CASE if endings == _CONTRACTIONS else group


def _spelled(ending: str, any_case: bool) -> set[str]:
    """Endings that ``s``, ``[sS]``, ``[sdmt]``, ``[lL][lL]`` stand for; None of ours where case is not ignored."""
    if re.fullmatch(r"(?:\[[A-Za-z]{2}\])+", ending) and not any_case:
        pairs = re.findall(r"\[(.)(.)\]", ending)
        return {"".join(a.lower() for a, _ in pairs)} if all(a.lower() == b.lower() for a, b in pairs) else {ending}
    if match := re.fullmatch(r"\[([A-Za-z]+)\]", ending):
        letters = set(match[1])
        if any_case or all(letter.swapcase() in letters for letter in letters):
            return {letter.lower() for letter in letters}
        return {ending}
    return {ending.lower()} if any_case else {f"{ending} as spelled"}


def ignores_merges(tokenizer: dict[str, Any]) -> bool:
    """Whether a word that is a token is taken whole, whatever the merges say."""
    model = expect(tokenizer.get("model"), dict, "tokenizer.json: model")
    value = model.get("ignore_merges") or False
    if not isinstance(value, bool):
        raise VocabularyError(f"tokenizer.json: model.ignore_merges is {value!r}; true or false was expected")
    return value


# GPT-2's alphabet: printable bytes stand for themselves, the others for the letters from U+0100 on.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_BYTE_OF_LETTER = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + n): byte for n, byte in enumerate(_OTHERS)}


_LETTER_OF_BYTE = {byte: letter for letter, byte in _BYTE_OF_LETTER.items()}


def to_byte_letters(data: bytes) -> str:
    """Bytes as a byte-level token spells them."""
    return "".join(_LETTER_OF_BYTE[byte] for byte in data)


def from_byte_letters(token: str) -> str | None:
    """The text a byte-level token stands for, or None where its bytes are no text of their own."""
    try:
        return bytes(_BYTE_OF_LETTER[letter] for letter in token).decode()
    except (KeyError, UnicodeDecodeError):
        return None
