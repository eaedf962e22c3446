"""sentencepiece BPE (Llama 2's kind): tokenizer.model, or a tokenizer.json made from one, to llama.cpp's ``llama``."""

from __future__ import annotations

from dataclasses import replace

from gguf import TokenType

from converter.errors import VocabularyError
from converter.vocabs import structure
from converter.vocabs.byte_pair import put_vocab, read_merges, vocab_of
from converter.vocabs.chat_template import chat_templates
from converter.vocabs.files import TokenizerFiles
from converter.vocabs.model_proto import read_model_proto
from converter.vocabs.special import special_tokens
from converter.vocabs.unigram import check_rows, unigram_of_model
from converter.vocabs.vocabulary import BYTE, TokenTable, Vocabulary, added_kind


def read_sentencepiece(files: TokenizerFiles, vocab_size: int) -> Vocabulary:
    """The vocabulary of tokenizer.model with the added tokens of the JSON files beside it.

    Raises:
        VocabularyError: the file is no BPE or Unigram model, or has more pieces than the embedding has rows.
    """
    path = files.sentencepiece_model
    proto = read_model_proto(path)
    if proto.model_type not in ("BPE", "Unigram"):
        raise VocabularyError(
            f"{path}: a {proto.model_type} model; llama.cpp runs BPE and Unigram models only, so it cannot be converted"
        )
    check_rows(str(path), len(proto.pieces), vocab_size)
    table = TokenTable.of_size(vocab_size, str(path))
    for token_id, (text, score, kind) in enumerate(proto.pieces):
        table.put(token_id, text.replace("▁", " ") if kind == TokenType.USER_DEFINED else text, kind, score)
    files = replace(files, numbered=tuple(files.numbered_after(proto.places, renames=True)))
    for token in files.added_tokens:
        put = table.put if token.id < len(proto.pieces) else table.put_added
        put(token.id, *added_kind(token.content, token.special), -1000.0)
    if proto.model_type == "Unigram":
        return unigram_of_model(files, table, proto)
    return _vocabulary(files, table, proto.add_dummy_prefix)


def read_byte_fallback(files: TokenizerFiles, vocab_size: int) -> Vocabulary:
    """The vocabulary of a tokenizer.json that does what sentencepiece does: spaces are ``▁``, unknown bytes ``<0x00>``.

    llama.cpp joins the pair whose joined token has the highest score, so a token's score is the rank, negated, of the
    first merge that makes it.
    """
    where = str(files.tokenizer_file)
    vocab = vocab_of(files, where)
    table = TokenTable.of_size(vocab_size, where)
    put_vocab(table, vocab, files, TokenType.NORMAL)
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(read_merges(files, where)):
        ranks.setdefault(merge.replace(" ", ""), rank)
    unknown = files.tokenizer["model"].get("unk_token")
    for text, token_id in vocab.items():
        if token_id < vocab_size:
            kind = TokenType.BYTE if BYTE.fullmatch(text) else TokenType.NORMAL
            table.put(token_id, text, TokenType.UNKNOWN if text == unknown else kind, -float(ranks.get(text, 1e6)))
    for token in files.added_tokens:
        if token.content != unknown:
            table.put_added(token.id, *added_kind(token.content, token.special))
    return _vocabulary(files, table, structure.prefixes_space(files.tokenizer))


def read_shown_parts(files: TokenizerFiles, vocab_size: int) -> Vocabulary:
    """The vocabulary of a tokenizer.json of Gemma 4's kind (``structure.shows_parts``): llama.cpp joins by its merges.

    Texts stay as they are. llama.cpp begins every text with the begin token, whatever the file says.
    """
    where = str(files.tokenizer_file)
    vocab = vocab_of(files, where)
    table = TokenTable.of_size(vocab_size, where)
    put_vocab(table, vocab, files, TokenType.NORMAL)
    for text, token_id in vocab.items():
        if token_id < vocab_size and BYTE.fullmatch(text):
            table.put(token_id, text, TokenType.BYTE)
    for token in files.added_tokens:
        hidden = token.special and token.content not in structure.SHOWN
        table.put_added(token.id, token.content, TokenType.CONTROL if hidden else TokenType.USER_DEFINED)
    table.check()
    ids, flags = special_tokens(files, vocab_size)
    if "bos" not in ids:
        raise VocabularyError(
            f"{files.directory}: no begin token, with which llama.cpp begins every text of this kind; "
            "name one as 'bos_token' in tokenizer_config.json"
        )
    return Vocabulary(
        model="gemma4",
        pre="gemma4",
        candidates=("gemma4",),
        tokens=table.tokens,
        types=table.types,
        merges=read_merges(files, where),
        special_ids=ids,
        add_special={**flags, "bos": True},
        add_space_prefix=False,
        chat_templates=chat_templates(files),
        dropped=tuple(table.dropped),
    )


def _vocabulary(files: TokenizerFiles, table: TokenTable, space_first: bool) -> Vocabulary:
    table.check()
    ids, flags = special_tokens(files, len(table.tokens))
    given = files.settings.get("add_prefix_space")
    return Vocabulary(
        model="llama",
        pre="default",
        candidates=("default",),
        tokens=table.tokens,
        types=table.types,
        scores=table.scores,
        special_ids=ids,
        add_special=flags,
        # llama.cpp's own default is to add it.
        add_space_prefix=space_first if isinstance(given, bool) or not space_first else None,
        chat_templates=chat_templates(files),
        dropped=tuple(table.dropped),
        files=files,
    )
