"""Small tokenizers trained on the spot, laid out as Hugging Face checkpoints lay them out."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from converter.vocabs.probe import probe_texts
from converter.vocabs.structure import GPT2, PUNCTUATION_RUNS

SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
CORPUS = [text for text in probe_texts() for _ in range(3)]


def step(spelling: str) -> Any:
    """The component of the ``tokenizers`` library that a step of ``structure.steps`` stands for."""
    if spelling == GPT2:
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if spelling == PUNCTUATION_RUNS:
        return pre_tokenizers.Punctuation("contiguous")
    if spelling == "<Punctuation Isolated>":
        return pre_tokenizers.Punctuation("isolated")
    if spelling in (r"\p{N}", r"\p{N}+"):
        return pre_tokenizers.Digits(individual_digits=spelling == r"\p{N}")
    return pre_tokenizers.Split(Regex(spelling), "isolated")


def byte_level(
    directory: Path,
    steps: tuple[str, ...],
    *,
    ignore_merges: bool = False,
    vocab_size: int = 900,
    nfc: bool = False,
    post_processor: str = "bos",
    unmergeable: tuple[str, ...] = (),
    settings: dict[str, Any] | None = None,
) -> int:
    """Train a byte-level BPE and save its files; ``unmergeable`` tokens get an id but no merge. Returns its size."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    last = [] if GPT2 in steps else [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*map(step, steps), *last])
    tokenizer.decoder = decoders.ByteLevel()
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if post_processor == "bos":
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{SPECIAL[0]} $A", pair=f"{SPECIAL[0]} $A {SPECIAL[0]}:1 $B:1", special_tokens=[(SPECIAL[0], 0)]
        )
    elif post_processor == "byte_level":
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    save(tokenizer, directory, {"bos_token": SPECIAL[0], "eos_token": SPECIAL[1], **(settings or {})})
    if unmergeable:
        edit(directory / "tokenizer.json", lambda data: add_words(data, unmergeable))
    return tokenizer.get_vocab_size() + len(unmergeable)


def add_words(data: dict[str, Any], words: tuple[str, ...]) -> None:
    """Put words at the end of the model's own tokens, the added token behind them."""
    added = data["added_tokens"][-1]
    data["model"]["vocab"].update({word: added["id"] + number for number, word in enumerate(words)})
    added["id"] += len(words)


def save(tokenizer: Tokenizer, directory: Path, settings: dict[str, Any]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def edit(path: Path, change: Any) -> None:
    """Apply ``change`` to the JSON object in a file."""
    data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def sentencepiece(directory: Path, *, settings: dict[str, Any] | None = None, **options: Any) -> int:
    """Train a sentencepiece BPE model with byte fallback, as Llama's was, and save it. Returns its size."""
    arguments: dict[str, Any] = {
        "model_type": "bpe",
        "vocab_size": 1400,
        "byte_fallback": True,
        "character_coverage": 0.98,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "split_digits": True,
        "allow_whitespace_only_pieces": True,
        "hard_vocab_limit": False,
        "minloglevel": 2,
    }
    texts = [text.replace("\n", " ").replace("\0", "") for text in CORPUS]
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([text for text in texts if text.strip()]), model_writer=model, **(arguments | options)
    )
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tokenizer.model").write_bytes(model.getvalue())
    if settings is not None:
        (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return int(SentencePieceProcessor(model_proto=model.getvalue()).vocab_size())


def fast_sentencepiece(directory: Path, *, pre_tokenizer: Any = None, normalizer: Any = None) -> int:
    """Save the tokenizer.json that transformers makes of a sentencepiece BPE model. Returns its size."""
    with tempfile.TemporaryDirectory() as scratch:
        size = sentencepiece(Path(scratch))
        processor = SentencePieceProcessor(model_file=f"{scratch}/tokenizer.model")
    vocab = {processor.id_to_piece(number): number for number in range(size)}
    # Every way to make a piece of two pieces, the likeliest pieces first (convert_slow_tokenizer.generate_merges).
    splits = [
        (processor.get_score(number), text[:cut], text[cut:])
        for text, number in vocab.items()
        for cut in range(1, len(text))
        if text[:cut] in vocab and text[cut:] in vocab
    ]
    merges = [(left, right) for _, left, right in sorted(splits, key=lambda split: (-split[0], vocab[split[1]]))]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer, tokenizer.normalizer = pre_tokenizer, normalizer
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    save(tokenizer, directory, {"bos_token": "<s>", "eos_token": "</s>"})
    return size
