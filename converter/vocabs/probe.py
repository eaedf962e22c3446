"""The probe text: several hundred strings on which two tokenizers that differ are likely to show it.

Each group attacks one step of a pre-tokenizer: how digits are grouped, what a contraction is, which characters count
as letters, marks, punctuation or space, where a run of white space ends, what surrounds a special token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

MAX_ADDED_TOKENS = 512

# fmt: off
#: Texts as people write them: a difference on one of these changes what every prompt means to the model. Letters are
#: composed and no space is rare or at the beginning; marks of Chinese and French are what compatibility forms change.
ORDINARY = [
    *("7" * n for n in range(1, 9)), "2024", "3.14159", "192.168.100.1", "1,000,000", "10%",
    "the", "The", "THE", "hello", "Hello", "Hello, World!", "Hello world. How are you?", "I'm fine; thanks... (really)",
    "The quick brown fox jumps over the lazy dog.", "NASA and HTTP, camelCase or snake_case?", "e.g. a-b, c/d & e_f",
    "def f(x):\n    return x + 1\n", "for (int i = 0; i < n; ++i) { a[i] += 1; }", '{"a": [1, 2.5, null]}',
    "https://example.com/a/b?x=1&y=2", "# Title\n\n- one\n- two\n", "user\nHow are you?", "\nHello", "\n", "Answer: ",
    "Yes.\n", "a  b", "\tx = 1", "Crème brûlée, déjà vu", "Straße, schön", "你好，世界！", "中文，English。", "…",
]

NUMBERS = [
    *("7" * n for n in range(1, 13)),
    *("1234567890123"[:n] for n in range(2, 14)),
    *(f" {'42' * n}" for n in range(1, 6)),
    "3.14159", "1,000,000", "1_000", "0x1F4A9", "1e-12", "10%", "$1234.50", "2024-02-29T23:59:59.999Z",
    "192.168.100.1", "a1b22c333d4444", "v2", "3D", "B2B", "x86_64", "12345abc", "abc12345", "1st 22nd 333rd", "10^6",
    "½ ¾ 1⁄3", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "１２３４５６７８９", "𝟘𝟙𝟚𝟛𝟜", "²³¹", "ⅠⅡⅢⅣ", "①②③④⑤",
    "一二三四五", "๑๒๓๔๕", "೧೨೩೪", "1 22 333 4444 55555 666666 7777777 88888888", "1,234,567.89", "007",
    "+1 (555) 010-9999", "12 345", "1\n2\n333\n4444",
]

_SUFFIXES = ("s", "t", "re", "ve", "m", "ll", "d", "S", "T", "RE", "Ve", "M", "lL", "D", "x", "em", "clock")
CONTRACTIONS = [
    *(f"we'{suffix}" for suffix in _SUFFIXES),
    *(f"WE’{suffix}" for suffix in _SUFFIXES),
    *(f"'{suffix} start" for suffix in _SUFFIXES),
    "don't can't won't I'm you're he'll they've she'd it's", "DON'T CAN'T I'M YOU'RE HE'LL THEY'VE", "rock 'n' roll",
    "'twas", "''s", "'''", "o'clock's", "I’ve ‘been’ told", "d'être l'été", "İstanbul'un Ankara'da", "x'ſ",
    "1's 2's", "_'s", "she 'said'", "'S'T'RE", "'LL", "it's's", "dogs' tails", "fo'c's'le", "K'", "'", "a'", "'a",
    " 's", "\n's", "  'll",
]

SCRIPTS = [
    "Crème brûlée déjà vu naïve façade", "Zażółć gęślą jaźń", "Příliš žluťoučký kůň", "Þórður ÆØÅ ßẞ",
    "ĲSSELMEER ǆ ǅ Ǆ", "Cre\u0300me bru\u0302le\u0301e", "a\u0323\u0307b", "n\u0303 N\u0303", "e\u0301", "\u0301",
    " \u0301x", "Å\u030a", "Z\u0351\u036b\u0343", "Vi\u1ec7t Nam đất nước", "Vie\u0323\u0302t Nam", "ﬁ ﬂ ﬀ",
    "ＦＵＬＬ ｗｉｄｔｈ", "𝒜𝓁𝑔𝑒𝒷𝓇𝒶 𝐗𝐲", "ʰʷ ᴬᴮ", "ª º µ", "Καλημέρα κόσμε", "ΚΑΛΗΜΕΡΑ",
    "Ἀρχιμήδης ᾳ ᾼ", "Привет, мир!", "ПриветМир ПРИВЕТмир",
    "нещо на Български", "Ѩѯ ѕӀ", "مرحبا بالعالم", "الْعَرَبِيَّةُ", "مرحبا، كيف؟", "ﷺ ﻻ", "שלום עולם",
    "שָׁלוֹם", "فارسی می‌خواهم", "اردو زبان۔", "ܫܠܡܐ", "ދިވެހި", "नमस्ते दुनिया", "क्षत्रिय ज्ञान", "বাংলা ভাষা",
    "ਪੰਜਾਬੀ", "தமிழ் மொழி", "తెలుగు భాష", "ಕನ್ನಡ", "മലയാളം", "සිංහල", "हिन्दी।वाक्य", "สวัสดีชาวโลก",
    "ภาษาไทย ก็ น้ำ", "ພາສາລາວ", "ភាសាខ្មែរ", "កាន់តែពិសេសអាច", "မြန်မာဘာသာ", "བོད་སྐད་", "ქართული ენა", "Ქართული",
    "Հայերեն", "你好，世界！", "我想在apple工作1314151天～", "漢字かな交じり文", "カタカナ ｶﾀｶﾅ ー",
    "ひらがな、カタカナ。", "简体字與繁體字", "𠀀𠮷野家", "〇々〆", "「」『』", "안녕하세요 세계",
    "\u1112\u1161\u11ab\u1100\u1173\u11af", "한국어와English섞기", "ㄱㄴㄷㅏㅑ", "ㄅㄆㄇㄈ", "ꦗꦮ", "አማርኛ", "ᏣᎳᎩ",
    "ⵜⴰⵎⴰⵣⵉⵖⵜ", "ᚠᚢᚦ", "ᓄᓇᕗᑦ", "𐌰𐌱𐌲", "𒀀𒁀", "camelCase PascalCase SCREAMING_CASE", "HTTPServer parseXML iOS",
    "McDonald's O'Neill", "ΣίσυφοςΑβ", "ÉcoleÉTÉ", "aÀbÈ", "Ǆabc", "漢字123カナ", "abcабв",
    "日本語English中文", "ñandú Ñandú", "Straße STRASSE", "ＡＢＣ１２３", "éa éé ÉÉ", "中文，English。",
    "한글 漢字 kana",
]

EMOJI = [
    "🙂", "🙂🙂", " 🙂 ", "a🙂b", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇷🇩🇪", "🇫", "❤️", "☺︎", "1️⃣2️⃣",
    "🚀 (normal) 😶‍🌫️ ✅ 🦙🦙", "♥♠♦♣", "🫠🪿🫨", "©®™", "→←↑↓⇒", "∑∫∂√∞≠≤≥", "x² + y³ = z⁴",
    "€£¥₹₿¢", "°C ±5 µm", "½×¼÷", "│┌─┐└┘█▓", "⠓⠑⠇⠇⠕", "♩♪♫", "𝄞", "ℵℶℝℂ", "№ § ¶ † ‡",
]

_SPACES = ("\t", "\n", "\r", "\r\n", "\u000b", "\u000c", "\u0085", "\u00a0", "\u1680", "\u2003", "\u2009",
           "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u200b", "\u2060", "\ufeff", "\u180e")
WHITESPACE = [
    *(" " * n for n in (*range(1, 13), 16, 17, 31, 32, 33, 64, 100)),
    *("\t" * n for n in range(1, 6)),
    *("\n" * n for n in range(1, 8)),
    *("\r\n" * n for n in range(1, 4)),
    *(f"a{' ' * n}b" for n in range(1, 10)),
    *(f"{' ' * n}lead" for n in range(1, 6)),
    *(f"trail{' ' * n}" for n in range(1, 6)),
    *(f"a{space}b" for space in _SPACES),
    *(f"a{space}{space}b" for space in _SPACES),
    *(f"a {space} b" for space in _SPACES),
    *(f"{space}1{space}!" for space in _SPACES),
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n", "a\n b", "a \nb", "a \n b", "a\n\n  b", "a  \n\n  b",
    "x\t\ty\t z", "\n\tfoo\n\t\tbar\n", "  \n", "\n  ", " \n ", "\t \n", "a\r\rb", "a\n\r\nb", "  \r\n  x", "!\n",
    "!!\n\n", ".\n\n\n.", ";\r\n", "a.\n  b", "?  \n", "1\n", "1  2   3", "1 \n 2", " !", "  !", "   a", "  1",
    " \u3000 a", "\u00a0\u00a0x", " \u00a0x", "\u00a0 x", "end.  Start", "a\t b", "a \tb", "tab\there",
    "\u3000\u3000段落",
]

PUNCTUATION = [
    *(mark * n for mark in ".,!?-_=*#/\\'\"`~" for n in (1, 2, 3, 5)),
    "...---...", "!?!?", "?!", "(a)", "[b]", "{c}", "<d>", "«e»", "“f”", "‘g’", "¿qué?", "¡olé!", "a-b",
    "a--b", "a—b", "a–b", "a…b", "a.b.c", "a,b;c:d", "e.g. i.e. etc.", "(((", ")))", "([{<>}])",
    "@user #tag $VAR %d ^x &y *z", "~/.config", "C:\\dir\\file", "a/b/c", " .", " ,", " ...", ". ", ".a", " .a", "-1",
    " -1", "--flag=value", "$$", "^^", "||", "&&", "++", "<<=>>", "|a|b|", "`code`", "~~~", "、。！？；：",
    "…。，、।۔،", "،؛؟", "।॥", "・〜～", "【注意】", "《书》", "–—―", "‐‑‒", "′″", "‹›", "※", "§1", "a·b",
    "a‧b", "¬a", "¦", "¨", "´", "¸", "'''```\"\"\"......!!!!!!??????", "------======= ", "\"quoted,\" she said.",
    "(see p. 12)", "a.)b", "],[", "}\n{", "/*\n*/", "//\n", "/\n", "a/\n",
]

CODE = [
    "def f(x: int = 0) -> str:\n    return f'{x!r:>10}'\n\n\nclass A(B):\n\tpass\n",
    'for (int i=0;i<n;++i){ a[i]+=b[i]*2; } // loop\n#include <stdio.h>\nprintf("%d\\n", x);',
    "SELECT * FROM `t` WHERE a>=1 AND b<>'it''s';", '<div class="x">&nbsp;<br/></div>\n<!-- c -->',
    '{"a": [1, 2.5, -3e10, null, true], "b": {"c": "\\u00e9"}}', "https://example.com/a/b?x=1&y=%20z#frag",
    "mail@example.org, ftp://h:21/~u/", "#!/bin/sh\nset -eu\necho \"${HOME:-/}\" | sed 's/a/b/g' > /dev/null 2>&1",
    "\\begin{align} x &= \\frac{1}{2} \\\\ \\end{align}", "if(a&&b||!c)return(-1);else{d=~e^f;}",
    "            deep = indent  # comment\n        dedent\n",
    "let s = r#\"raw\"#; fn x<'a>(v: &'a str) -> Option<u8> {}", "| a | b |\n|---|:-:|\n| 1 | 2 |",
    "- [ ] todo\n  * nested\n1. one\n> quote", "s.replace('\\t', '    ')", "x = {'a':1,\n     'b':22,\n     'c':333}",
    "commit 3f2a9c1d0e (HEAD -> main)\n+added\n-removed\n@@ -1,7 +1,9 @@", "user@host:~$ ls -la *.py && cd ..",
    "The quick brown fox jumps over the lazy dog. THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG.",
    "Hello, World! How are you today? I'm fine; thanks... (really)",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "Pneumonoultramicroscopicsilicovolcanoconiosis antidisestablishmentarianism",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "abababababababababababab", "A", "z", "the",
    " the", "The", " THE",
]

UNUSUAL = [
    *(f"a{chr(code)}b" for code in (*range(9), *range(14, 32), 0x7F, 0x80, 0x9F, 0xAD)),
    "\ufffd", "\ue000", "\uf8ff", "\ud7ff", "\ufffc", "\ufffe", "\uffff", "\U000f0000", "\U0010ffff", "\U0001fffe",
    "\U000e0001",
    "\ufffd\ufffd\ufffd", "a\ufffdb", "a\u200db", "a\u200eb\u200f", "\u202ertl\u202c", "\u2066x\u2069", "a\u00adb",
    "\u0378", "\u0300\u0301", "\u1100\u1161", "\u0e33", "\ufe0f", "\u20dd", "a\u20dd", "\U000e0067\U000e0062", "Ã©",
    "â€™", "ï»¿x", "\x1b[31mred\x1b[0m", "\x08\x7f", "▁", "▁a", "a▁b", "▁▁", " ▁ ", "Ġ", "Ġa", "Ċ", "<0x0A>",
    "<0x41>", "Ġthe", "[PAD0]", "<|not_a_token|>", "<s", "</", "<unk", "[IN",
]
# fmt: on


def probe_texts(added_tokens: Sequence[str] = (), words: Iterable[str] = ()) -> list[str]:
    """All strings both sides have to tokenize.

    Args:
        added_tokens: texts of the vocabulary's added tokens, each of which is put alone, inside and next to other
            text; at most ``MAX_ADDED_TOKENS`` of them, evenly spread.
        words: further strings that only the vocabulary at hand makes interesting.

    Returns:
        Distinct, non-empty strings, plain text first.
    """
    step = -(-len(added_tokens) // MAX_ADDED_TOKENS) or 1
    texts = [*NUMBERS, *CONTRACTIONS, *SCRIPTS, *EMOJI, *WHITESPACE, *PUNCTUATION, *CODE, *UNUSUAL, *ORDINARY, *words]
    chosen = added_tokens[::step]
    return list(dict.fromkeys([*texts, *_around(chosen), *_in_sentences(chosen)]))


def ordinary_texts(added_tokens: Sequence[str] = ()) -> frozenset[str]:
    """The texts of the probe that are ordinary: ``ORDINARY``, and sentences with added tokens that are words."""
    return frozenset([*ORDINARY, *_in_sentences(added_tokens)])


def _in_sentences(tokens: Sequence[str]) -> Iterator[str]:
    for token in tokens:
        if token.isalpha():
            yield from (f"the {token}s are", f"hello {token} world", f"This {token}, too.")


def _around(tokens: Sequence[str]) -> Iterator[str]:
    """Each token where its neighbours could change what is made of it, or of them."""
    for token in tokens:
        yield from (token, f"hello{token}world", f"hello {token} world")
    for token in tokens[:16]:
        yield from (f" {token}", f"{token} ", f"\n{token}\n\n", f"{token}{token}", f"{token} {token}", f"12{token}34")
        yield from (f"  {token}  x", f"{token[:-1]}", f"{token[1:]} x", f"<{token}>", f"{token}'s", f"é{token}中")
    for left, right in pairwise(tokens[:17]):
        yield from (f"{left}{right}", f"{left}user\n\nHow are you?{right}")
