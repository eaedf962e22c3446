"""WordPiece (BERT's kind): tokenizer.json to llama.cpp's model ``bert``."""

from __future__ import annotations

from gguf import TokenType

from converter.errors import VocabularyError
from converter.vocabs import structure
from converter.vocabs.byte_pair import put_vocab, token_ids
from converter.vocabs.chat_template import chat_templates
from converter.vocabs.files import TokenizerFiles, expect
from converter.vocabs.special import special_tokens
from converter.vocabs.vocabulary import TokenTable, Vocabulary, added_kind


def read_wordpiece(files: TokenizerFiles, vocab_size: int) -> Vocabulary:
    """The vocabulary of a WordPiece tokenizer.json.

    The source marks pieces that continue a word (``##ing``), llama.cpp those that begin one (``▁go``).

    Raises:
        VocabularyError: the file is not what it should be, or has more tokens than the embedding has rows.
    """
    where = str(files.tokenizer_file)
    model = files.tokenizer["model"]
    mark = expect(model.get("continuing_subword_prefix", "##"), str, f"{where}: model.continuing_subword_prefix")
    if not mark:
        raise VocabularyError(f"{where}: model.continuing_subword_prefix is empty; llama.cpp needs pieces to be marked")
    unknown = expect(model.get("unk_token", "[UNK]"), str, f"{where}: model.unk_token")
    vocab = token_ids(model, where)
    if unknown not in vocab:
        raise VocabularyError(f"{where}: model.unk_token is {unknown[:40]!r}, which is no token; fetch the file again")
    table = TokenTable.of_size(vocab_size, where)
    put_vocab(table, vocab, files, TokenType.NORMAL)
    for token in files.added_tokens:
        table.put_added(token.id, *added_kind(token.content, token.special))
    whole = (TokenType.CONTROL, TokenType.USER_DEFINED)
    table.tokens = [
        text if kind in whole else text[len(mark) :] if text.startswith(mark) and text != mark else f"▁{text}"
        for text, kind in zip(table.tokens, table.types, strict=True)
    ]
    table.check()
    ids, flags = special_tokens(files, vocab_size)
    return Vocabulary(
        model="bert",
        pre="default",
        candidates=("default",),
        tokens=table.tokens,
        types=table.types,
        special_ids={**ids, "unk": vocab[unknown]},
        add_special=flags,
        normalizer=normalizer_options(files),
        chat_templates=chat_templates(files),
        dropped=tuple(table.dropped),
    )


def normalizer_options(files: TokenizerFiles) -> dict[str, bool]:
    """Whether text is lower-cased and accents are dropped; llama.cpp does both unless told otherwise."""
    lowercase = strip_accents = False
    for part in structure.normalizers(files.tokenizer):
        if part.get("type") == "BertNormalizer":
            lowercase = part.get("lowercase", True) is True
            given = part.get("strip_accents")
            strip_accents = lowercase if given is None else given is True
        lowercase = lowercase or part.get("type") == "Lowercase"
        strip_accents = strip_accents or part.get("type") == "StripAccents"
    return {"lowercase": lowercase, "strip_accents": strip_accents}
