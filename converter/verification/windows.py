"""The tokens on which a file and its source are compared: windows of the passage, as the source's tokenizer cuts it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from converter.errors import VerificationError, VocabularyError
from converter.verification.passage import PASSAGE

#: The longest window of text, in tokens, and that of a text to embed: of these there must be many.
WINDOW = 256
EMBEDDED = 64

#: Bounds of the whole comparison: tokens, and bytes of the results kept on disk meanwhile.
MAX_POSITIONS = 2048
MAX_BYTES = 1 << 29


class Text(NamedTuple):
    """Tokens of a text, and those that the tokenizer puts before and behind one."""

    prefix: list[int]
    ids: list[int]
    suffix: list[int]


def encode(tokenizer: Path) -> Text:
    """The passage, as the source's tokenizer cuts it.

    Raises:
        VerificationError: the tokenizer cannot be read.
    """
    from converter.vocabs.files import read_tokenizer_files
    from converter.vocabs.reference import open_reference

    try:
        reference = open_reference(read_tokenizer_files(tokenizer))
    except VocabularyError as error:
        raise VerificationError(str(error)) from error
    (bare,), (whole,) = (reference.encode([PASSAGE], add_special=special) for special in (False, True))
    starts = (n for n in range(len(whole)) if whole[n : n + len(bare)] == bare)
    start = next(starts, None)
    return Text([], bare, []) if start is None else Text(whole[:start], bare, whole[start + len(bare) :])


def cut_windows(
    prefix: list[int],
    ids: list[int],
    suffix: list[int] | None = None,
    *,
    context_length: int,
    row_length: int,
    longest: int = WINDOW,
) -> NDArray[np.int64]:
    """Full windows of the text, each between prefix and suffix, within the bounds of this module.

    Args:
        prefix: tokens at the start of each window.
        ids: the text's tokens.
        suffix: tokens at the end of each window.
        context_length: tokens that the model can see.
        row_length: elements that a model returns for a token.
        longest: tokens of a window at most.

    Returns:
        int64 (windows, window).

    Raises:
        VerificationError: the model sees too little text to compare.
    """
    after = suffix or []
    around = len(prefix) + len(after)
    window = min(longest, context_length, around + len(ids))
    fresh = window - around
    if fresh < 2:
        raise VerificationError(f"a context of {context_length} tokens is too short to compare predictions")
    positions = min(MAX_POSITIONS, MAX_BYTES // (4 * row_length))
    count = max(1, min(len(ids) // fresh, positions // window))
    starts = range(0, count * fresh, fresh)
    return np.array([prefix + ids[start : start + fresh] + after for start in starts], np.int64)
