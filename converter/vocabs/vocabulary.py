"""A vocabulary as GGUF holds it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_letters, digits

from gguf import GGUFValueType, TokenType
from gguf import Keys as GGUFKeys

from converter.errors import VocabularyError
from converter.gguf import key_values
from converter.gguf.key_values import KeyValue
from converter.vocabs.files import TokenizerFiles

KEYS = GGUFKeys.Tokenizer

ID_KEYS = {
    "bos": KEYS.BOS_ID,
    "eos": KEYS.EOS_ID,
    "unk": KEYS.UNK_ID,
    "sep": KEYS.SEP_ID,
    "pad": KEYS.PAD_ID,
    "mask": KEYS.MASK_ID,
    "eot": KEYS.EOT_ID,
    "eom": KEYS.EOM_ID,
    "fim_pre": KEYS.FIM_PRE_ID,
    "fim_suf": KEYS.FIM_SUF_ID,
    "fim_mid": KEYS.FIM_MID_ID,
    "fim_pad": KEYS.FIM_PAD_ID,
    "fim_rep": KEYS.FIM_REP_ID,
    "fim_sep": KEYS.FIM_SEP_ID,
}
# A token that stands for one byte, in sentencepiece's spelling.
BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")

FLAG_KEYS = {"bos": KEYS.ADD_BOS, "eos": KEYS.ADD_EOS, "sep": KEYS.ADD_SEP}
# llama.cpp reads them (src/llama-arch.cpp); the gguf package does not name them yet.
_NORMALIZER_KEY = "tokenizer.ggml.normalizer.{option}"


@dataclass(frozen=True)
class Vocabulary:
    """Everything under ``tokenizer.`` in a GGUF file.

    Attributes:
        model: ``gpt2`` (byte-level BPE), ``llama`` (sentencepiece BPE), ``gemma4`` (BPE with ``▁`` for spaces),
            ``t5`` (Unigram) or ``bert`` (WordPiece).
        pre: llama.cpp's name of the pre-tokenizer.
        candidates: names the structure of the tokenizer allows, best first; empty where it decides nothing.
        given: the name was the user's choice.
        tokens: one text for each row of the embedding.
        types: ``gguf.TokenType`` of each token.
        scores: one for each token (``llama`` and ``t5`` only).
        merges: "left right", by rank (``gpt2`` and ``gemma4`` only).
        special_ids: role (``bos``, ``eos``, …) to token id.
        add_special: role to whether the token is added around every text.
        add_space_prefix: whether a text starts with a space of its own; None leaves it to llama.cpp.
        remove_extra_whitespaces: runs of spaces become one and those at the ends none (``t5`` only).
        charsmap: sentencepiece's compiled rules of normalization (``t5`` only).
        normalizer: ``lowercase`` and ``strip_accents`` (``bert`` only).
        chat_templates: name to template; ``default`` is the main one.
        limits: what llama.cpp cannot hold of it, one sentence each.
        left_out: special tokens that its files name though the embedding has no row for them, one sentence each.
        dropped: added tokens left out because the embedding has no row for them.
        files: where it was read from, without tokens and merges.
    """

    model: str
    pre: str
    candidates: tuple[str, ...]
    tokens: Sequence[str]
    types: Sequence[int]
    scores: Sequence[float] | None = None
    merges: Sequence[str] | None = None
    special_ids: Mapping[str, int] = field(default_factory=dict)
    add_special: Mapping[str, bool] = field(default_factory=dict)
    add_space_prefix: bool | None = None
    remove_extra_whitespaces: bool | None = None
    charsmap: bytes = b""
    normalizer: Mapping[str, bool] = field(default_factory=dict)
    chat_templates: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    given: bool = False
    files: TokenizerFiles | None = field(default=None, repr=False, compare=False)

    def key_values(self) -> list[KeyValue]:
        """The keys llama.cpp's own converter writes for the same tokenizer."""
        pairs = [key_values.string(KEYS.MODEL, self.model), key_values.string(KEYS.PRE, self.pre)]
        if self.add_space_prefix is not None:
            pairs.append(key_values.boolean(KEYS.ADD_PREFIX, self.add_space_prefix))
        if self.remove_extra_whitespaces is not None:
            pairs.append(key_values.boolean(KEYS.REMOVE_EXTRA_WS, self.remove_extra_whitespaces))
        if self.charsmap:
            pairs.append(key_values.array(KEYS.PRECOMPILED_CHARSMAP, list(self.charsmap), GGUFValueType.UINT8))
        pairs += [
            key_values.boolean(_NORMALIZER_KEY.format(option=option), on) for option, on in self.normalizer.items()
        ]
        pairs.append(key_values.array(KEYS.LIST, list(self.tokens), GGUFValueType.STRING))
        if self.scores is not None:
            pairs.append(key_values.array(KEYS.SCORES, list(self.scores), GGUFValueType.FLOAT32))
        pairs.append(key_values.array(KEYS.TOKEN_TYPE, list(self.types), GGUFValueType.INT32))
        if self.merges:
            pairs.append(key_values.array(KEYS.MERGES, list(self.merges), GGUFValueType.STRING))
        pairs += [
            key_values.uint32(ID_KEYS[role], value) for role, value in self.special_ids.items() if role in ID_KEYS
        ]
        pairs += [key_values.boolean(FLAG_KEYS[role], on) for role, on in self.add_special.items() if role in FLAG_KEYS]
        return pairs + self._chat_template_pairs()

    def _chat_template_pairs(self) -> list[KeyValue]:
        plain = ascii_letters + digits
        named = {
            "".join(letter if letter in plain else "_" for letter in name): template
            for name, template in self.chat_templates.items()
            if name and name != "default"
        }
        pairs = [key_values.string(KEYS.CHAT_TEMPLATE_N.format(name=name), text) for name, text in named.items()]
        if named:
            pairs.append(key_values.array(KEYS.CHAT_TEMPLATES, list(named), GGUFValueType.STRING))
        if "default" in self.chat_templates:
            pairs.append(key_values.string(KEYS.CHAT_TEMPLATE, self.chat_templates["default"]))
        return pairs

    @property
    def special_texts(self) -> list[str]:
        """Texts that are matched whole, before anything is tokenized."""
        whole = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
        return [text for text, kind in zip(self.tokens, self.types, strict=True) if kind in whole]


@dataclass
class TokenTable:
    """Tokens being laid out by id, one for each row of the embedding; a row without a token is padding."""

    where: str
    tokens: list[str]
    types: list[int]
    scores: list[float]
    dropped: list[str]

    @classmethod
    def of_size(cls, vocab_size: int, where: str) -> TokenTable:
        """Padding for every row, as llama.cpp's converter writes it.

        Args:
            vocab_size: rows of the embedding.
            where: the file the tokens come from, for messages.
        """
        tokens = [f"[PAD{number}]" for number in range(vocab_size)]
        return cls(where, tokens, [int(TokenType.UNUSED)] * vocab_size, [-10000.0] * vocab_size, [])

    def put(self, token_id: int, text: str, kind: int, score: float = 0.0) -> None:
        """Set one token. ``token_id`` must have a row."""
        self.tokens[token_id] = text
        self.types[token_id] = int(kind)
        self.scores[token_id] = score

    def put_added(self, token_id: int, text: str, kind: int, score: float = -1000.0) -> None:
        """Set an added token, or remember that the embedding has no row for it: the model was never given it.

        Raises:
            VocabularyError: the row is another token's.
        """
        if token_id < len(self.tokens):
            was = self.tokens[token_id]
            if self.types[token_id] != TokenType.UNUSED and was.replace("▁", " ") != text.replace("▁", " "):
                raise VocabularyError(
                    f"{self.where}: {was[:40]!r} and the added token {text[:40]!r} both have the id {token_id}, "
                    "because the ids of the vocabulary leave a hole; put the added token into the vocabulary, too"
                )
            self.put(token_id, text, kind, score)
        elif text not in self.dropped:
            self.dropped.append(text)

    def check(self) -> None:
        """Raises VocabularyError for what llama.cpp cannot hold: a text twice, a zero in it, or none in UTF-8."""
        zero = next((token_id for token_id, text in enumerate(self.tokens) if "\0" in text), None)
        if zero is not None:
            raise VocabularyError(
                f"{self.where}: token {zero} is {self.tokens[zero][:40]!r}; llama.cpp ends a text at a zero character; "
                "rename the token"
            )
        if len(set(self.tokens)) != len(self.tokens):
            first: dict[str, int] = {}
            for token_id, text in enumerate(self.tokens):
                if first.setdefault(text, token_id) != token_id:
                    raise VocabularyError(
                        f"{self.where}: tokens {first[text]} and {token_id} have the same text {text[:40]!r}; "
                        "llama.cpp needs every token's text to be different; rename one of them"
                    )
        try:
            "".join(self.tokens).encode()
        except UnicodeEncodeError as error:
            raise VocabularyError(
                f"{self.where}: a token is not valid Unicode ({error.reason}); fetch it again"
            ) from error


def looks_special(text: str) -> bool:
    """Added tokens that play a part in prompts although their files do not mark them so; llama.cpp's list."""
    return (
        text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
        or (text.startswith("<|") and text.endswith("|>"))
        or (text.startswith("<｜") and text.endswith("｜>"))
        or (text.startswith("<unused") and text.endswith(">"))
    )


def added_kind(text: str, special: bool) -> tuple[str, int]:
    """Text and type an added token is stored with; llama.cpp matches user-defined ones with plain spaces."""
    if special or looks_special(text):
        return text, int(TokenType.CONTROL)
    return text.replace("▁", " "), int(TokenType.USER_DEFINED)
