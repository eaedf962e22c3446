"""Byte-level BPE (GPT-2's kind: Llama 3, Qwen, …): tokenizer.json to llama.cpp's model ``gpt2``."""

from __future__ import annotations

from typing import Any

from gguf import TokenType

from converter.errors import VocabularyError
from converter.vocabs import pretokenizers, structure
from converter.vocabs.chat_template import chat_templates
from converter.vocabs.files import TokenizerFiles, expect
from converter.vocabs.special import special_tokens
from converter.vocabs.vocabulary import TokenTable, Vocabulary, added_kind


def read_byte_pair(files: TokenizerFiles, vocab_size: int, *, file: str | None = None) -> Vocabulary:
    """The vocabulary of a byte-level tokenizer.json, its pre-tokenizer derived from the file's structure.

    ``file`` is the file that ``files.tokenizer`` was made from, for messages, where ``files`` does not know it.
    Where no built-in pre-tokenizer of llama.cpp has that structure, ``candidates`` is empty and ``pre`` is ``""``.

    Raises:
        VocabularyError: the file is not what it should be, or has more tokens than the embedding has rows.
    """
    where = str(files.directory / file if file else files.tokenizer_file)
    table = TokenTable.of_size(vocab_size, where)
    put_vocab(table, vocab_of(files, where), files, TokenType.NORMAL)
    for token in files.added_tokens:
        table.put_added(token.id, *added_kind(token.content, token.special))
    table.check()
    ids, flags = special_tokens(files, vocab_size)
    clean = files.settings.get("clean_up_tokenization_spaces")
    steps = structure.steps(files.tokenizer)
    names = pretokenizers.candidates(
        tuple(step for step in steps if step != structure.SPACE_FIRST),
        ignore_merges=structure.ignores_merges(files.tokenizer),
        clean_spaces=clean if isinstance(clean, bool) else None,
    )
    prefix = files.settings.get("add_prefix_space")
    return Vocabulary(
        model="gpt2",
        # A space that llama.cpp does not put there leaves the name open, so that it is always put to the proof.
        pre=names[0] if names and structure.SPACE_FIRST not in steps else "",
        candidates=names,
        tokens=table.tokens,
        types=table.types,
        merges=read_merges(files, where),
        special_ids=ids,
        add_special=flags,
        add_space_prefix=prefix if isinstance(prefix, bool) else None,
        chat_templates=chat_templates(files),
        dropped=tuple(table.dropped),
    )


def vocab_of(files: TokenizerFiles, where: str) -> dict[str, int]:
    """``model.vocab`` of a BPE tokenizer.json: text to id."""
    model = expect(files.tokenizer.get("model"), dict, f"{where}: model")
    if model.get("type", "BPE") != "BPE":
        raise VocabularyError(f"{where}: the tokenizer's model is {model.get('type')!r}; byte-level text needs BPE")
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise VocabularyError(f"{where}: model.{key} is {model[key]!r}; llama.cpp's BPE knows no such thing")
    return token_ids(model, where)


def token_ids(model: dict[str, Any], where: str) -> dict[str, int]:
    """``vocab`` of a model of tokenizer.json: text to id, none of them empty or negative."""
    vocab: dict[str, int] = expect(model.get("vocab"), dict, f"{where}: model.vocab")
    if not vocab:
        raise VocabularyError(f"{where}: model.vocab is empty; the download may be incomplete, fetch it again")
    if set(map(type, vocab.values())) != {int} or min(vocab.values()) < 0:
        text = next(text for text, token_id in vocab.items() if type(token_id) is not int or token_id < 0)
        raise VocabularyError(f"{where}: the id of token {text[:40]!r} is {vocab[text]!r}; a number was expected")
    return vocab


def put_vocab(table: TokenTable, vocab: dict[str, int], files: TokenizerFiles, kind: TokenType) -> None:
    """Lay the model's own tokens out. One beyond the embedding's rows is refused unless it is an added token."""
    rows, added = len(table.tokens), {token.content for token in files.added_tokens}
    if len(set(vocab.values())) != len(vocab):
        raise VocabularyError(f"{table.where}: two tokens of model.vocab have the same id; fetch the file again")
    for text, token_id in vocab.items():
        if token_id < rows:
            table.tokens[token_id] = text
            table.types[token_id] = int(kind)
        elif text not in added:
            raise VocabularyError(
                f"{table.where}: token {text[:40]!r} has id {token_id}, but the embedding has {rows} rows; "
                "the tokenizer belongs to another model: name the right one with --tokenizer"
            )


def read_merges(files: TokenizerFiles, where: str) -> list[str]:
    """Merges by rank as "left right". A space inside a half, which GGUF cannot hold, is written as ``Ġ``."""
    merges: list[Any] = expect(files.tokenizer["model"].get("merges"), list, f"{where}: model.merges")
    for number, merge in enumerate(merges):
        if type(merge) is str:
            if merge.count(" ") == 1:
                continue
        elif type(merge) is list and len(merge) == 2 and type(merge[0]) is str and type(merge[1]) is str:
            continue
        raise VocabularyError(
            f"{where}: model.merges[{number}] is {str(merge)[:40]!r}; two pieces of text were expected"
        )
    joined = [merge if type(merge) is str else " ".join(merge) for merge in merges]
    if "".join(joined).count(" ") > len(joined):
        joined = [
            merge if type(merge) is str else " ".join(half.replace(" ", "Ġ") for half in merge) for merge in merges
        ]
    return joined
