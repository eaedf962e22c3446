"""The text that a model is run on, as bytes and as chunks of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.imatrix.matrix import ImatrixError

LARGEST_TEXT = 2**30
"""Bytes of one text; llama.cpp counts them in 31 bits."""


def read_text(path: Path) -> bytes:
    """A text's bytes.

    Raises:
        ImatrixError: it cannot be read, is too long, or is not UTF-8.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_TEXT:
            raise ImatrixError(f"{path}: is {size} bytes long, expected at most {LARGEST_TEXT}; split it")
        data = path.read_bytes()
        data.decode()
    except OSError as error:
        raise ImatrixError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ImatrixError(f"{path}: is not UTF-8 at byte {error.start}; convert the text first") from None
    return data


def chunks_of(texts: Sequence[NDArray[np.int32]], size: int) -> NDArray[np.int32]:
    """The texts' tokens, one text after the other, in whole chunks.

    Returns:
        int32 (chunks, size).

    Raises:
        ImatrixError: there is not one whole chunk.
    """
    tokens = np.concatenate(texts)
    if len(tokens) < size:
        raise ImatrixError(
            f"the text has {len(tokens)} tokens, expected at least {size}, one chunk; give more text or a smaller "
            "--chunk-size"
        )
    return tokens[: len(tokens) // size * size].reshape(-1, size)
