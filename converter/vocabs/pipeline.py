"""What a tokenizer.json does around its model, as parts that can be changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from converter.vocabs import structure
from converter.vocabs.added_tokens import AddedToken
from converter.vocabs.files import TokenizerFiles
from converter.vocabs.special import special_tokens

Around = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass
class Pipeline:
    """What a tokenizer.json does around its model.

    Attributes:
        normalizers: parts of the normalizer, in order.
        pre_tokenizers: parts of the pre-tokenizer, in order.
        added: added tokens.
        model: the model's settings, without its tokens.
        before: applied to a text before everything else.
        name: the ``general.name`` llama.cpp sees.
        shows_parts: the tokenizer is Gemma 4's (``structure.shows_parts``).
        as_text: added tokens that are matched no more.
        by_text: tokens of the model that llama.cpp takes for special ones by their text, though the source does not.
        around: ids that the post-processor puts before and after a text.
        own_around: the same for llama.cpp.
        put_around: ids to put there instead of what the post-processor does; None leaves it to that.
        spellings: texts of these ids.
    """

    normalizers: list[dict[str, Any]]
    pre_tokenizers: list[dict[str, Any]]
    added: list[AddedToken]
    model: dict[str, Any]
    before: Callable[[str], str] | None = None
    name: str = ""
    as_text: tuple[str, ...] = ()
    by_text: tuple[AddedToken, ...] = ()
    shows_parts: bool = False
    around: Around = ((), ())
    own_around: Around = ((), ())
    put_around: Around | None = None
    spellings: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, files: TokenizerFiles, name: str) -> Pipeline:
        parts = structure.normalizers(files.tokenizer), structure.pre_tokenizers(files.tokenizer)
        pipeline = cls(*parts, list(files.added_tokens), dict(files.tokenizer.get("model") or {}), name=name)
        pipeline.shows_parts = structure.shows_parts(files.tokenizer)
        ids, flags = special_tokens(files, 1 << 31)
        # llama.cpp puts both around whatever BERT's kind is given, and begins whatever Gemma 4's is.
        bert = pipeline.kind == "WordPiece"
        end = "sep" if bert else "eos"
        begins, ends = flags.get("bos") or bert or pipeline.shows_parts, flags.get("eos") or bert
        pipeline.own_around = (
            (ids["bos"],) if "bos" in ids and begins else (),
            (ids[end],) if end in ids and ends else (),
        )
        return pipeline

    @property
    def kind(self) -> str:
        """``byte-level``, ``BPE`` (of sentencepiece's kind), ``Unigram`` or ``WordPiece``."""
        if any(part.get("type") == "ByteLevel" for part in self.pre_tokenizers):
            return "byte-level"
        return str(self.model.get("type", "BPE"))

    def spell(self, ids: tuple[int, ...]) -> str:
        """Tokens as a sentence names them."""
        return " ".join(repr(self.spellings.get(token_id, f"#{token_id}")) for token_id in ids) or "nothing"

    def replace_part(self, kind: str, *instead: dict[str, Any]) -> None:
        """Put other normalizers in place of those of a kind."""
        self.normalizers = [
            new for part in self.normalizers for new in (instead if part.get("type") == kind else [part])
        ]
