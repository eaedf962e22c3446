"""What the source itself predicts, computed by transformers in float32. Called in a child process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from converter.errors import VerificationError, VocabularyError
from converter.verification.isolation import answering
from converter.verification.passage import PASSAGE

if TYPE_CHECKING:
    import torch

IDS, LOGITS = "ids.npy", "logits.npy"

#: The longest window of text, in tokens.
WINDOW = 256

#: Bounds of the whole comparison: tokens, and bytes of the logits kept on disk meanwhile.
MAX_POSITIONS = 2048
MAX_BYTES = 1 << 29

#: Characters of another library's message that are passed on.
MAX_REASON = 400

#: The types weights can be rounded to before anything else, as a plan names them and as torch does.
ROUNDING = {"f16": "float16", "bf16": "bfloat16"}


@answering
def write_logits(
    *,
    source: str,
    tokenizer: str,
    folder: str,
    context_length: int,
    vocab_size: int,
    batch_size: int,
    threads: int,
    trust_remote_code: bool,
    load_dtype: str | None,
) -> dict[str, Any]:
    """Run the source over windows of the passage and leave tokens and logits in ``folder``.

    ``ids.npy`` is int64 (windows, window), ``logits.npy`` float32 (windows, window, vocab_size).

    Args:
        source: directory of the checkpoint.
        tokenizer: directory with the tokenizer's files.
        folder: an existing directory for the two files.
        context_length: tokens that the model can see.
        vocab_size: length of a row of logits in the converted file.
        batch_size: windows run at once.
        threads: threads to compute with.
        trust_remote_code: let transformers run the checkpoint's own code.
        load_dtype: a key of ``ROUNDING``, or None.

    Returns:
        ``windows``: how many there are.

    Raises:
        VerificationError: transformers cannot load the source, or it does not fit the file.
    """
    import torch

    torch.set_num_threads(threads)
    windows = cut_windows(*encode(Path(tokenizer)), context_length=context_length, vocab_size=vocab_size)
    np.save(Path(folder) / IDS, windows)
    model = load_source(source, trust_remote_code=trust_remote_code, load_dtype=load_dtype)
    logits = np.lib.format.open_memmap(
        Path(folder) / LOGITS, mode="w+", dtype=np.float32, shape=(*windows.shape, vocab_size)
    )
    for start in range(0, len(windows), batch_size):
        with torch.inference_mode():
            found = model(torch.from_numpy(windows[start : start + batch_size])).logits.float().numpy()
        if found.shape[-1] != vocab_size:
            raise VerificationError(f"the source predicts {found.shape[-1]} tokens but the file {vocab_size}")
        if not np.isfinite(found).all():
            raise VerificationError("the source's own logits are not finite")
        logits[start : start + batch_size] = found
    logits.flush()
    return {"windows": len(windows)}


def encode(tokenizer: Path) -> tuple[list[int], list[int]]:
    """The tokens that the source's tokenizer puts before a text, and those of the passage.

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
    return whole[: next(starts, 0)], bare


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}…"


def cut_windows(prefix: list[int], ids: list[int], *, context_length: int, vocab_size: int) -> NDArray[np.int64]:
    """Full windows of the text, each after the prefix, within the bounds of this module.

    Args:
        prefix: tokens at the start of each window.
        ids: the text's tokens.
        context_length: tokens that the model can see.
        vocab_size: length of a row of logits.

    Returns:
        int64 (windows, window).

    Raises:
        VerificationError: the model sees too little text to compare.
    """
    window = min(WINDOW, context_length, len(prefix) + len(ids))
    fresh = window - len(prefix)
    if fresh < 2:
        raise VerificationError(f"a context of {context_length} tokens is too short to compare predictions")
    positions = min(MAX_POSITIONS, MAX_BYTES // (4 * vocab_size))
    count = max(1, min(len(ids) // fresh, positions // window))
    return np.array([prefix + ids[start : start + fresh] for start in range(0, count * fresh, fresh)], np.int64)


def load_source(source: str, *, trust_remote_code: bool, load_dtype: str | None) -> torch.nn.Module:
    """The checkpoint as transformers runs it: float32 on the CPU, attention computed step by step."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=torch.float32,
            attn_implementation="eager",
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # a stranger's files: transformers raises whatever it meets
        raise VerificationError(f"transformers cannot load it: {one_line(error)}") from error
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise VerificationError(f"transformers finds no weights for {missing}")
    if load_dtype is not None:
        rounded = getattr(torch, ROUNDING[load_dtype])
        for parameter in model.parameters():
            parameter.data = parameter.data.to(rounded).float()
    return model.eval()  # type: ignore[no-any-return]
