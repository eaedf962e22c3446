"""The ``tokenizer.model`` of Meta's Llama 3 checkpoints: tiktoken's list of tokens, a line "base64 rank" for each.

The file names neither the expression that splits text nor the special tokens, which follow the ranks: both are in
Meta's code (https://github.com/meta-llama/llama-models, ``models/llama3/tokenizer.py``), and of the special tokens
Llama 3 and its successors have different lists. Those not named in transformers' conversion of such checkpoints
(``convert_llama_weights_to_hf.py``), by which these models are known, are reserved here too: Meta's later code calls
two of them ``<|step_id|>`` and ``<|image|>``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from converter.errors import VocabularyError
from converter.vocabs.byte_pair import read_byte_pair
from converter.vocabs.files import TIKTOKEN_LINE, TokenizerFiles, expect, read_object
from converter.vocabs.pretokenizers import LLAMA3
from converter.vocabs.ranks import ByRank, RankedTokens, like_tokenizer_json
from converter.vocabs.vocabulary import Vocabulary

PARAMETERS = "params.json"
SPECIAL_TOKENS = 256
#: Longest token in bytes; Llama 3's longest has 128. The work for one grows with the square of its length.
LONGEST = 1024

_ROLES = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
_RESERVED = "<|reserved_special_token_{number}|>"
# fmt: off
_LLAMA_3 = (
    "<|begin_of_text|>", "<|end_of_text|>", None, None, None, None,
    "<|start_header_id|>", "<|end_header_id|>", None, "<|eot_id|>",
)
_LLAMA_3_1 = (
    "<|begin_of_text|>", "<|end_of_text|>", None, None, "<|finetune_right_pad_id|>", None,
    "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
)
# fmt: on


def read_tiktoken(files: TokenizerFiles, vocab_size: int) -> Vocabulary:
    """The vocabulary of a Llama 3 checkpoint of Meta's, as the byte-level BPE that does the same.

    Where a turn ends is not said: llama.cpp knows ``<|eot_id|>`` and ``<|eom_id|>`` by their text.

    Raises:
        VocabularyError: the file is not what it should be, is no Llama 3's, or its tokens and the embedding's rows are
            not equally many.
    """
    path = files.sentencepiece_model
    tokens = read_tiktoken_model(files)
    if (found := len(tokens.ids) + len(tokens.special)) != vocab_size:
        raise VocabularyError(
            f"{path}: {len(tokens.ids)} ranks and the {SPECIAL_TOKENS} special tokens of Llama 3 make {found} tokens, "
            f"but the embedding has {vocab_size} rows; the file is cut short or belongs to another model: fetch it "
            "again, or name the right one with --tokenizer"
        )
    tokenizer = like_tokenizer_json(tokens)
    # As in transformers' tokenizer.json; the first of the two says that nothing ends a text.
    processors = [{"type": "ByteLevel"}, tokenizer["post_processor"]]
    tokenizer["post_processor"] = {"type": "Sequence", "processors": processors}
    like_json = replace(files, tokenizer=tokenizer, settings={**_ROLES, **files.settings})
    return read_byte_pair(like_json, vocab_size, file=path.name)


def read_tiktoken_model(files: TokenizerFiles) -> RankedTokens:
    """Raises VocabularyError where the file is not what it should be, or no Llama 3's."""
    ids = read_ranks(files.sentencepiece_model)
    return RankedTokens(LLAMA3, tuple(_special_tokens(files)), len(ids), ids, _ROLES["bos_token"])


def read_ranks(path: Path) -> dict[bytes, int]:
    """Bytes of each token to its rank: every rank from 0 on, and every single byte.

    Raises:
        VocabularyError: anything else, or a token of more than ``LONGEST`` bytes.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise VocabularyError(f"{path}: cannot be read ({error.strerror})") from error
    if not data.isascii():
        place = next(place for place, byte in enumerate(data) if byte > 0x7F)
        raise VocabularyError(
            f"{path}: byte {place} is 0x{data[place]:02x}; base64 and numbers were expected; fetch the file again"
        )
    ranks: dict[bytes, int] = {}
    line_of: dict[bytes | int, int] = {}
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        token, rank = _token_and_rank(line, f"{path}: line {number}")
        for kind, found in (("token", token), ("rank", rank)):
            if (before := line_of.setdefault(found, number)) != number:
                raise VocabularyError(
                    f"{path}: lines {before} and {number} have the same {kind}, {found!r}; fetch the file again"
                )
        ranks[token] = rank
    missing = next((rank for rank in range(len(ranks)) if rank not in line_of), None)
    if missing is not None:
        raise VocabularyError(f"{path}: rank {missing} of {len(ranks)} is missing; fetch the file again")
    byte = next((byte for byte in range(256) if bytes([byte]) not in ranks), None)
    if byte is not None:
        raise VocabularyError(f"{path}: no token for the single byte 0x{byte:02x}; fetch the file again")
    return ranks


def _token_and_rank(line: bytes, where: str) -> tuple[bytes, int]:
    match = TIKTOKEN_LINE.fullmatch(line)
    try:
        token = base64.b64decode(match[1], validate=True) if match else b""
    except binascii.Error:
        token = b""
    if match is None or not 0 < len(token) <= LONGEST:
        raise VocabularyError(
            f"{where} is {line[:40].decode()!r}; a token of at most {LONGEST} bytes in base64 and its rank were "
            "expected; fetch the file again"
        )
    return token, int(match[2])


def _special_tokens(files: TokenizerFiles) -> Iterator[str]:
    named = _LLAMA_3_1 if _scales_rope(files) else _LLAMA_3
    reserved = count()
    for text in (*named, *[None] * (SPECIAL_TOKENS - len(named))):
        yield text or _RESERVED.format(number=next(reserved))


def _scales_rope(files: TokenizerFiles) -> bool:
    """Whether the model scales its rotary embedding, as every Llama from 3.1 on does and Llama 3 does not."""
    where = files.directory / PARAMETERS
    if parameters := read_object(where):
        return expect(parameters.get("use_scaled_rope") or False, bool, f"{where}: use_scaled_rope")
    if files.config.get("model_type") == "llama":
        rope: Any = files.config.get("rope_parameters") or files.config.get("rope_scaling")
        return isinstance(rope, dict) and rope.get("rope_type", rope.get("type")) == "llama3"
    raise VocabularyError(
        f"{files.sentencepiece_model}: tiktoken's file names no special tokens, and there is no {PARAMETERS} or "
        "config.json of a Llama beside it to tell which they are; put the model's there, or a tokenizer.json"
    )


class Tiktoken(ByRank):
    """Meta's tokenizer by its definition."""

    def __init__(self, files: TokenizerFiles) -> None:
        super().__init__(read_tiktoken_model(files), f"{files.sentencepiece_model}: the expression of Llama 3")
