"""How much memory a full verification takes."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

from converter.errors import ConversionError, EnvironmentFailure
from converter.runtime.memory import address_space, available_memory

#: What torch, transformers and the results of a run take beside the weights: resident, and as addresses.
BASE, BASE_ADDRESSES = 550_000_000, 1_500_000_000

#: Tokens of a window, and how many copies of a window's logits there are at once.
_WINDOW, _COPIES = 256, 3

#: The number of an expert in a tensor's name: transformers keeps a layer's experts in one tensor.
_EXPERT = re.compile(r"(?<=\bexperts\.)\d+\.")


def memory_of_full_verification(weights: int, *, largest: int, vocab_size: int, batch_size: int = 1) -> int:
    """Bytes that the source takes while it is run, in float32.

    Args:
        weights: how many the checkpoint holds.
        largest: weights of the largest tensor that is copied while it is loaded, a layer's experts counting as one.
        vocab_size: length of a row of logits.
        batch_size: windows that are run at once.
    """
    return BASE + 4 * (weights + largest + batch_size * _WINDOW * vocab_size * _COPIES)


def check_memory(source: Path, *, vocab_size: int | None = None, batch_size: int = 1) -> None:
    """Refuse a full verification that cannot fit, by the headers of the checkpoint, before anything is loaded.

    A checkpoint that cannot be opened passes: whoever opens it next tells why.

    Args:
        source: the checkpoint's directory.
        vocab_size: length of a row of logits; that of the configuration by default.
        batch_size: windows that are run at once.

    Raises:
        EnvironmentFailure: how much it takes, how much there is, and what to do.
    """
    from converter.checkpoints import open_checkpoint

    free = available_memory()
    if free is None:
        return
    try:
        with open_checkpoint(source) as checkpoint:
            sizes: Counter[str] = Counter()
            for name, tensor in checkpoint.tensors.items():
                sizes[_EXPERT.sub("", name)] += math.prod(tensor.shape)
            config, stored = checkpoint.config, checkpoint.nbytes
    except ConversionError:
        return
    text = config.get("text_config")
    found = config.get("vocab_size") or (text.get("vocab_size") if isinstance(text, dict) else None)
    words = vocab_size or (found if isinstance(found, int) else 0)
    weights, largest = sizes.total(), max(sizes.values(), default=0)
    needed = memory_of_full_verification(weights, largest=largest, vocab_size=words, batch_size=batch_size)
    limit = address_space()
    if needed > free.nbytes or (limit is not None and needed - BASE + BASE_ADDRESSES + stored > limit):
        one = memory_of_full_verification(weights, largest=largest, vocab_size=words)
        smaller = "a smaller --batch-size or " if batch_size > 1 and one <= free.nbytes else ""
        raise EnvironmentFailure(
            f"a full verification runs the source in float32, which takes about {needed / 1e9:.1f} GB for "
            f"{weights:,} weights, with {free}; use {smaller}--verify load, or a machine with more memory"
        )
