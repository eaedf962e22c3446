"""sentencepiece Unigram (T5's and XLM-R's kind): tokenizer.json or tokenizer.model to llama.cpp's model ``t5``."""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Any

from gguf import TokenType

from converter.errors import VocabularyError
from converter.vocabs import structure
from converter.vocabs.chat_template import chat_templates
from converter.vocabs.files import TokenizerFiles, expect
from converter.vocabs.model_proto import ModelProto
from converter.vocabs.special import special_tokens
from converter.vocabs.vocabulary import TokenTable, Vocabulary, added_kind

# Logarithms of probabilities are small numbers; from here on float32 holds none.
MAX_SCORE = 1e38


def read_unigram(files: TokenizerFiles, vocab_size: int) -> Vocabulary:
    """The vocabulary of a Unigram tokenizer.json.

    Raises:
        VocabularyError: the file is not what it should be, or has more tokens than the embedding has rows.
    """
    where = str(files.tokenizer_file)
    pieces = _pieces(files.tokenizer["model"], where)
    unknown = files.tokenizer["model"].get("unk_id")
    if not isinstance(unknown, int) or isinstance(unknown, bool) or not 0 <= unknown < len(pieces):
        raise VocabularyError(f"{where}: model.unk_id is {unknown!r}; the id of the unknown token was expected")
    table = TokenTable.of_size(vocab_size, where)
    check_rows(where, len(pieces), vocab_size)
    for token_id, (text, score) in enumerate(pieces):
        table.put(token_id, text, TokenType.UNKNOWN if token_id == unknown else TokenType.NORMAL, score)
    for token in files.added_tokens:
        if token.id != unknown:
            score = pieces[token.id][1] if token.id < len(pieces) else 0.0
            table.put_added(token.id, *added_kind(token.content, token.special), score)
    kinds = [part.get("type") for part in structure.pre_tokenizers(files.tokenizer)]
    return _vocabulary(
        files,
        table,
        {"unk": unknown},
        space_first=structure.prefixes_space(files.tokenizer),
        merges_spaces="WhitespaceSplit" in kinds or _replaces_runs(files),
        charsmap=_charsmap(files, where),
    )


def unigram_of_model(files: TokenizerFiles, table: TokenTable, proto: ModelProto) -> Vocabulary:
    """The vocabulary of a Unigram tokenizer.model whose tokens are laid out in ``table``."""
    check_charsmap(proto.charsmap, table.where)
    return _vocabulary(
        files,
        table,
        proto.ids,
        space_first=proto.add_dummy_prefix,
        merges_spaces=proto.remove_extra_whitespaces,
        charsmap=proto.charsmap,
    )


def check_rows(where: str, pieces: int, vocab_size: int) -> None:
    """Raises VocabularyError where the embedding has no row for one of the model's own pieces."""
    if pieces > vocab_size:
        raise VocabularyError(
            f"{where}: {pieces} pieces, but the embedding has {vocab_size} rows; "
            "the tokenizer belongs to another model: name the right one with --tokenizer"
        )


def _vocabulary(
    files: TokenizerFiles,
    table: TokenTable,
    default_ids: dict[str, int],
    *,
    space_first: bool,
    merges_spaces: bool,
    charsmap: bytes,
) -> Vocabulary:
    table.check()
    ids, flags = special_tokens(files, len(table.tokens))
    if files.tokenizer:
        # llama.cpp would add an end unless told not to.
        flags.setdefault("eos", False)
    return Vocabulary(
        model="t5",
        pre="default",
        candidates=("default",),
        tokens=table.tokens,
        types=table.types,
        scores=table.scores,
        special_ids={**default_ids, **ids},
        add_special=flags,
        add_space_prefix=space_first,
        remove_extra_whitespaces=merges_spaces,
        charsmap=charsmap,
        chat_templates=chat_templates(files),
        dropped=tuple(table.dropped),
        files=files,
    )


def _pieces(model: dict[str, Any], where: str) -> list[tuple[str, float]]:
    """``model.vocab``: text and logarithm of the probability of each piece."""
    entries = expect(model.get("vocab"), list, f"{where}: model.vocab")
    pieces = []
    for number, entry in enumerate(entries):
        if not (
            isinstance(entry, list)
            and len(entry) == 2
            and isinstance(entry[0], str)
            and isinstance(entry[1], int | float)
            and abs(entry[1]) < MAX_SCORE
        ):
            raise VocabularyError(
                f"{where}: model.vocab[{number}] is {str(entry)[:40]!r}; a text and its score were expected"
            )
        pieces.append((entry[0], float(entry[1])))
    if not pieces:
        raise VocabularyError(f"{where}: model.vocab is empty; the download may be incomplete, fetch it again")
    return pieces


def _replaces_runs(files: TokenizerFiles) -> bool:
    """Whether the normalizer makes one space of several, as transformers writes for some sentencepiece models."""
    return any(
        part.get("type") == "Replace" and part.get("pattern") == {"Regex": " {2,}"}
        for part in structure.normalizers(files.tokenizer)
    )


def _charsmap(files: TokenizerFiles, where: str) -> bytes:
    for part in structure.normalizers(files.tokenizer):
        if part.get("type") == "Precompiled":
            name = f"{where}: normalizer.precompiled_charsmap"
            text = expect(part.get("precompiled_charsmap") or "", str, name)
            try:
                charsmap = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError) as error:
                raise VocabularyError(f"{name} is not base64 ({error}); fetch the file again") from error
            check_charsmap(charsmap, where)
            return charsmap
    return b""


def check_charsmap(charsmap: bytes, where: str) -> None:
    """Raises VocabularyError unless it is a 4-byte length, a trie of that many bytes, and the replacements' texts."""
    if not charsmap:
        return
    size = struct.unpack("<I", charsmap[:4])[0] if len(charsmap) > 4 else 0
    if not size or size % 4 or 4 + size >= len(charsmap) or charsmap[-1]:
        raise VocabularyError(
            f"{where}: the compiled normalization rules of {len(charsmap)} bytes are damaged; fetch the file again"
        )
