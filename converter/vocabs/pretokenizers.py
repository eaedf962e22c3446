"""The pre-tokenizers llama.cpp has built in, and the structure of tokenizer.json that each stands for.

The facts are those of llama.cpp's ``src/llama-vocab.cpp``: which names it accepts in ``tokenizer.ggml.pre``, which
expressions each runs, whether it takes a word that is a token whole (``ignore_merges``) and whether it removes the
space before punctuation when it writes text (``clean_spaces``). Names that behave alike share a row; the first is the
one written.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from converter.vocabs.structure import GPT2, PUNCTUATION_RUNS, canonical_regex

Steps = tuple[str, ...]

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_DIGIT, _DIGITS, _THREE_DIGITS = r"\p{N}", r"\p{N}+", r"\p{N}{1,3}"


def _words(digits: str, letters: str = r"[^\r\n\p{L}\p{N}]?\p{L}+", tail: str = _TAIL) -> str:
    return f"{_CONTRACTIONS}|{letters}|{digits}|{tail}"


def _cased(digits: str, upper: str, lower: str, ending: str = "") -> str:
    """Words that end where lower case meets upper case, as in o200k; ``ending`` may follow a word."""
    return (
        rf"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+{ending}|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*{ending}"
        rf"|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


# Upper and lower case as the tokenizers mean them, and as llama.cpp tells them apart: in ASCII only.
_CASES = (r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]")
_ASCII_CASES = (r"((?=[\p{L}])([^a-z]))", r"((?=[\p{L}])([^A-Z]))")
_ASCII_CASES_AND_MARKS = (r"((?=[\p{L}\p{M}])([^a-z]))", r"((?=[\p{L}\p{M}])([^A-Z]))")
_CASE_LIMIT = "llama.cpp tells upper from lower case in ASCII only: words of other scripts may be cut elsewhere"

LLAMA3 = _words(_THREE_DIGITS)
QWEN2 = _words(_DIGIT)
_LETTERS_AND_MARKS = r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+"
QWEN35 = _words(_DIGIT, _LETTERS_AND_MARKS, _TAIL.replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]"))
_ENDING = f"{_CONTRACTIONS}?"
TEKKEN = _cased(_DIGIT, *_CASES)
GPT4O = _cased(_THREE_DIGITS, *_CASES, _ENDING)
_BLOOM = " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"
_BLOOM_FLAT = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
_KANA_AND_HAN = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_HAN_AND_HANGUL = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_WIDE_PUNCTUATION = r"\s?[!-/:-~" "\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"
_DEEPSEEK_WORDS = (
    '[!"' r"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+"
)
_DEEPSEEK_TAIL = r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED_SCRIPTS = (
    "\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376"
    "\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d"
    "\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df"
    "\U0001e900-\U0001e943"
)
_YOUTU_BLOCKS = (
    "[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+"
    "|[\u3105-\u312f]+|" + _KANA_AND_HAN
)
_CASCADE = "|".join(rf"\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4)) + r"|\s{1,2}(?!\S)|\s"
_GROUPED_FROM_THE_RIGHT = r"\d{1,3}(?=(?:\d{3})*\b)"
_LINES = r"[^\n]+|[\n]+"


@dataclass(frozen=True)
class PreTokenizer:
    """One behaviour of llama.cpp.

    Attributes:
        names: what ``tokenizer.ggml.pre`` may say for it, the one to write first.
        structures: steps of a tokenizer.json (``structure.steps``) that it reproduces.
        ignore_merges: a word that is a token is taken whole.
        clean_spaces: the space before punctuation is removed when text is written.
        byte_level: works on bytes spelled with printable letters; the others cannot stand for a byte-level BPE.
        runs: the steps llama.cpp really runs, where they are only close to the structure's.
        limit: what differs then, as a sentence.
    """

    names: tuple[str, ...]
    structures: tuple[Steps, ...] = ()
    ignore_merges: bool = False
    clean_spaces: bool = True
    byte_level: bool = True
    runs: Steps = ()
    limit: str = ""


def _row(names: str, *structures: Steps, runs: Steps = (), limit: str = "", **flags: bool) -> PreTokenizer:
    spelled = tuple(tuple(step if step[0] == "<" else canonical_regex(step) for step in steps) for steps in structures)
    return PreTokenizer(tuple(names.split()), spelled, runs=runs, limit=limit, **flags)


_DIGITS_THEN_GPT2 = (_DIGIT, GPT2)
_DEEPSEEK3 = (_THREE_DIGITS, _KANA_AND_HAN, _DEEPSEEK_WORDS + _DEEPSEEK_TAIL)

# The order of rows is the order of preference among those that fit equally well.
PRE_TOKENIZERS: tuple[PreTokenizer, ...] = (
    _row(
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano", (LLAMA3,), ignore_merges=True
    ),
    _row("glm4 glm5", (LLAMA3,), ignore_merges=True),
    _row("smaug-bpe dbrx chatglm-bpe", (LLAMA3,)),
    _row("qwen2 deepseek-r1-qwen kormo f2llmv2 hunyuan solar-open grok-2", (QWEN2,), clean_spaces=False),
    _row("stablelm2 megrez", (QWEN2,)),
    _row("qwen35", (QWEN35,), clean_spaces=False),
    _row(
        "gpt-2 phi-2 mpt olmo jais exaone4 gigachat a.x-4.0 mellum modern-bert jina-es jina-de jina-v2-es jina-v2-de",
        (GPT2,),
    ),
    _row("trillion granite-docling", (GPT2,), clean_spaces=False),
    _row("roberta-bpe jina-v1-en jina-v2-code", (GPT2,)),
    _row("starcoder refact codeshell exaone minerva-7b mellum2", _DIGITS_THEN_GPT2),
    _row("smollm command-r", _DIGITS_THEN_GPT2, clean_spaces=False),
    _row(
        "tekken",
        (TEKKEN,),
        ignore_merges=True,
        clean_spaces=False,
        runs=(_cased(_DIGIT, *_ASCII_CASES),),
        limit=_CASE_LIMIT,
    ),
    _row(
        "gpt-4o llama4 kanana2 talkie minimax-m2",
        (GPT4O,),
        clean_spaces=False,
        runs=(_cased(_THREE_DIGITS, *_ASCII_CASES, _ENDING),),
        limit=_CASE_LIMIT,
    ),
    _row(
        "granite-embed-multi-97m",
        (GPT4O,),
        ignore_merges=True,
        clean_spaces=False,
        runs=(_cased(_THREE_DIGITS, *_ASCII_CASES_AND_MARKS, _ENDING),),
        limit=_CASE_LIMIT,
    ),
    _row("deepseek-v3 hunyuan-dense joyai-llm hy_v4", _DEEPSEEK3, clean_spaces=False),
    _row(
        "deepseek-llm",
        (r"[\r\n]", rf"\s?[A-Za-z{_CASED_SCRIPTS}]+", _WIDE_PUNCTUATION, r"\s+$", _HAN_AND_HANGUL, _DIGITS),
        clean_spaces=False,
    ),
    _row("deepseek-coder", (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _HAN_AND_HANGUL, _DIGIT), clean_spaces=False),
    _row(
        "falcon",
        (PUNCTUATION_RUNS, GPT2, "[0-9][0-9][0-9]"),
        (PUNCTUATION_RUNS, GPT2, _DIGITS, "[0-9][0-9][0-9]"),
    ),
    _row("default", (PUNCTUATION_RUNS, GPT2, _DIGITS, "[0-9][0-9][0-9]")),
    _row("bloom gpt3-finnish", (_BLOOM,), (_BLOOM_FLAT,)),
    _row("poro-chat", (_BLOOM,), (_BLOOM_FLAT,), clean_spaces=False),
    _row("viking", (_BLOOM, _DIGIT), (_BLOOM_FLAT, _DIGIT), clean_spaces=False),
    _row("bailingmoe bailingmoe2 llada-moe", (QWEN2.replace(r"\s*[\r\n]+|", r"\s*[\r\n]|"),), clean_spaces=False),
    _row(
        "seed-coder",
        (_words(_DIGIT, tail=r" ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"),),
        clean_spaces=False,
    ),
    _row("ufakzeka", (QWEN2.removeprefix(f"{_CONTRACTIONS}|"),), clean_spaces=False),
    _row("jais-2", (LLAMA3.replace(r"\s+(?!\S)|\s+", _CASCADE),)),
    _row("minicpm5", (_THREE_DIGITS, _words(_DIGITS)), ignore_merges=True),
    _row("laguna", (_LINES, QWEN2), clean_spaces=False),
    _row(
        "exaone-moe",
        (
            _words(
                _DIGIT,
                r"[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+",
                r" ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
            ),
        ),
    ),
    _row(
        "superbpe",
        (_DIGITS, r"(?=(\d{3})+(?!\d))"),
        clean_spaces=False,
        runs=(_DIGITS, r"(?=([0-9]{3})+(?![0-9]))"),
        limit="llama.cpp groups by three only the digits 0 to 9",
    ),
    _row("tiny_aya cohere2moe", (_GROUPED_FROM_THE_RIGHT, GPT4O), clean_spaces=False),
    _row(
        "spark2_5",
        (_THREE_DIGITS, _KANA_AND_HAN, _DEEPSEEK_WORDS + r"|[\r\n]|\s+(?!\S)|\s+", _DIGIT),
        clean_spaces=False,
    ),
    _row("youtu", (_YOUTU_BLOCKS, _cased(_DIGIT, *_CASES, _ENDING)), ignore_merges=True, clean_spaces=False),
    _row(
        "chameleon",
        (
            "<sentinel:[0-9]+>",
            "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
            r"([\t\n]|    |  )",
            _DIGIT,
            "<Punctuation Isolated>",
            GPT2,
        ),
        clean_spaces=False,
    ),
    _row("afmoe", clean_spaces=False),
    _row("kimi-k2", clean_spaces=False),
    _row("gemma4 granite-embed-multi-311m", byte_level=False),
    _row("sarvam-moe", clean_spaces=False, byte_level=False),
    _row("whitespace", byte_level=False),
)

NAMES = frozenset(name for row in PRE_TOKENIZERS for name in row.names)


def candidates(steps: Steps, *, ignore_merges: bool, clean_spaces: bool | None) -> tuple[str, ...]:
    """Names whose rows have these steps, those that also agree on merges, then on spaces, first.

    Args:
        steps: ``structure.steps`` of the tokenizer.
        ignore_merges: whether it takes a word that is a token whole.
        clean_spaces: whether it removes the space before punctuation; None if it does not say.
    """
    rows = [row for row in PRE_TOKENIZERS if steps in row.structures]
    rows.sort(key=lambda row: (row.ignore_merges != ignore_merges, clean_spaces not in (None, row.clean_spaces)))
    return tuple(row.names[0] for row in rows)


def is_known(steps: Steps) -> bool:
    """Whether llama.cpp has a pre-tokenizer of these steps, or of something close to them."""
    return any(steps in row.structures for row in PRE_TOKENIZERS)


def approximations(steps: Steps) -> dict[str, tuple[Steps, str]]:
    """By name, the steps llama.cpp runs in place of these and what differs, where they are only close."""
    rows = [row for row in PRE_TOKENIZERS if row.runs and steps in row.structures]
    return {row.names[0]: (row.runs, row.limit) for row in rows}


def first_name(name: str) -> str:
    """The name to write for what this one does."""
    return next((row.names[0] for row in PRE_TOKENIZERS if name in row.names), name)


def other_names(tried: Collection[str]) -> tuple[str, ...]:
    """One name of every other behaviour a byte-level vocabulary could have."""
    return tuple(row.names[0] for row in PRE_TOKENIZERS if row.byte_level and not set(row.names) & set(tried))
