"""Small tokenizers of the kinds that are not byte-pair: WordPiece, Unigram, Tekken; laid out as checkpoints do."""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from vocabs.small_tokenizers import CORPUS, save, sentencepiece

from converter.vocabs.model_proto import read_model_proto

BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Tekken's expression, as in the files of mistral-common.
TEKKEN_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN_SPECIAL = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>", "[PREFIX]", "[MIDDLE]", "[SUFFIX]"]


def wordpiece(directory: Path, *, user_defined: tuple[str, ...] = (), **normalizer: bool | None) -> int:
    """A WordPiece vocabulary of frequent words and of all letters, in BERT's files. Returns its size.

    The library's own trainer breaks ties at random, so its vocabularies differ from run to run.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(**normalizer)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    counts: Counter[str] = Counter()
    for text in CORPUS:
        normal = tokenizer.normalizer.normalize_str(text)
        counts.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal))
    words = sorted((word for word in counts if len(word) > 1), key=lambda word: (-counts[word], word))[:400]
    letters = sorted({letter for word in counts for letter in word if letter.isalnum() or letter.isascii()} - {"\0"})
    endings = sorted({f"##{word[-3:]}" for word in words if len(word) > 4})
    pieces = [*BERT_SPECIAL, *letters, *(f"##{letter}" for letter in letters), *words, *endings]
    vocab = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer.model = models.WordPiece(vocab, unk_token="[UNK]")
    tokenizer.add_special_tokens(BERT_SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in user_defined])
    roles = ("pad", "unk", "cls", "sep", "mask")
    save(tokenizer, directory, {f"{role}_token": text for role, text in zip(roles, BERT_SPECIAL, strict=True)})
    return tokenizer.get_vocab_size()


def t5_sentencepiece(directory: Path, **options: Any) -> int:
    """Train a Unigram model numbered as T5's: padding, end, unknown, no begin. Returns its size."""
    layout = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "byte_fallback": False, "split_digits": False}
    rules = {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True}
    sizes = {"vocab_size": 900, "allow_whitespace_only_pieces": False, "num_threads": 1}
    return sentencepiece(directory, model_type="unigram", **(layout | rules | sizes | options))


def unigram(
    directory: Path,
    *,
    begin: bool = False,
    byte_fallback: bool = False,
    pre_tokenizer: Any = None,
    normalizer: list[Any] | None = None,
    **options: Any,
) -> int:
    """The tokenizer.json that transformers makes of such a model, with sentinels like T5's. Returns its size.

    Args:
        directory: where to.
        begin: ``<s> A </s>`` as XLM-R has it, instead of ``A </s>``.
        byte_fallback: unknown characters are spelled as bytes.
        pre_tokenizer: instead of cutting at white space.
        normalizer: parts after the compiled rules.
        options: for sentencepiece's trainer.
    """
    scratch = directory / "sentencepiece"
    size = t5_sentencepiece(scratch, byte_fallback=byte_fallback, bos_id=3 if begin else -1, **options)
    processor = SentencePieceProcessor(model_file=str(scratch / "tokenizer.model"))
    pieces = [(processor.id_to_piece(number), processor.get_score(number)) for number in range(size)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=byte_fallback))
    charsmap = read_model_proto(scratch / "tokenizer.model").charsmap
    compiled = [normalizers.Precompiled(charsmap)] if charsmap else []
    tokenizer.normalizer = normalizers.Sequence([*compiled, *(normalizer or [])])
    metaspace = pre_tokenizers.Metaspace("▁", prepend_scheme="always")
    tokenizer.pre_tokenizer = pre_tokenizer or pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    tokenizer.decoder = decoders.Metaspace("▁", prepend_scheme="always")
    before, known = ("<s> ", [("<s>", 3)]) if begin else ("", [])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{before}$A </s>", pair=f"{before}$A </s> $B </s>", special_tokens=[*known, ("</s>", 1)]
    )
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>", *(["<s>"] if begin else [])])
    tokenizer.add_special_tokens([f"<extra_id_{number}>" for number in range(3)])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    roles = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    save(tokenizer, directory, roles | ({"bos_token": "<s>"} if begin else {}))
    return tokenizer.get_vocab_size()


def tekken(directory: Path, *, fillers: int = 3, spare: int = 7, with_special: bool = True) -> int:
    """Rank tokens as tekken.json does, after a byte-level BPE trained with its expression. Returns its size.

    Args:
        directory: where to.
        fillers: special tokens without a text.
        spare: tokens in the file beyond those the model uses.
        with_special: list the special tokens; files before version 11 don't.
    """
    letters = Tokenizer(models.BPE())
    letters.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(TEKKEN_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    letters.train_from_iterator(CORPUS, trainer)
    alphabet = _byte_letters()
    words = [bytes(alphabet[letter] for letter in text) for text, _ in sorted(letters.get_vocab().items(), key=_by_id)]
    ranked = [*(bytes([byte]) for byte in range(256)), *(word for word in words if len(word) > 1)]
    special = len(TEKKEN_SPECIAL) + fillers if with_special else 20
    data: dict[str, Any] = {
        "config": {
            "pattern": TEKKEN_PATTERN,
            "num_vocab_tokens": len(ranked),
            "default_vocab_size": len(ranked) + special - spare,
            "default_num_special_tokens": special,
            "version": "v11" if with_special else "v3",
        },
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
            for rank, token in enumerate(ranked)
        ],
    }
    if with_special:
        data["special_tokens"] = [
            {"rank": rank, "token_str": text, "is_control": True} for rank, text in enumerate(TEKKEN_SPECIAL)
        ]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tekken.json").write_text(json.dumps(data), encoding="utf-8")
    return int(data["config"]["default_vocab_size"])


def _by_id(item: tuple[str, int]) -> int:
    return item[1]


def _byte_letters() -> dict[str, int]:
    """GPT-2's letters, as transformers has them."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {letter: byte for byte, letter in bytes_to_unicode().items()}
