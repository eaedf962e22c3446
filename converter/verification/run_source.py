"""What the source itself computes, with transformers in float32. Called in a child process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.errors import VerificationError
from converter.runtime.environment import require
from converter.verification import results
from converter.verification.isolation import answering
from converter.verification.source_model import load_source
from converter.verification.windows import EMBEDDED, WINDOW, cut_windows, encode

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Reference:
    """How the source of one kind of model is run.

    Attributes:
        classes: transformers' auto classes; the first that knows the model's configuration is taken, or the last.
        run: from a model and tokens (windows, window) to what is compared, (windows, window, row).
        row: what a row of that is, for the message about another length.
        longest: tokens of a window at most.
        ends: windows end as the tokenizer ends a text.
        unread: beginnings of the names of weights that the comparison does without.
    """

    classes: tuple[str, ...]
    run: Callable[[Any, torch.Tensor], torch.Tensor]
    row: str
    longest: int = WINDOW
    ends: bool = False
    unread: tuple[str, ...] = ()


def answers(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Logits of a decoder that repeats what its encoder reads."""
    import torch

    start = torch.full_like(ids[:, :1], model.config.decoder_start_token_id)
    logits: torch.Tensor = model(input_ids=ids, decoder_input_ids=torch.cat([start, ids[:, :-1]], 1)).logits
    return logits


ENCODER = Reference(
    ("AutoModelForTextEncoding", "AutoModel"),
    lambda model, ids: model.base_model(ids).last_hidden_state,
    "makes embeddings of {} elements",
    longest=EMBEDDED,
    ends=True,
    unread=("pooler.",),
)

REFERENCES: Mapping[str, Reference] = {
    "causal": Reference(
        # The last is for code of the checkpoint's own, whose configuration no class knows.
        ("AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForCausalLM"),
        lambda model, ids: model(ids).logits,
        "predicts {} tokens",
    ),
    "encoder": ENCODER,
    "reranker": ENCODER,
    "encoder-decoder": Reference(("AutoModelForSeq2SeqLM",), answers, "predicts {} tokens", ends=True),
}


@answering
def write_results(
    *,
    kind: str,
    source: str,
    tokenizer: str,
    folder: str,
    context_length: int,
    row_length: int,
    batch_size: int,
    threads: int,
    trust_remote_code: bool,
    load_dtype: str | None,
    adapters: list[str] | None = None,
    stock: bool = False,
) -> dict[str, Any]:
    """Run the source over windows of the passage and leave tokens and ``results`` in a folder.

    Args:
        kind: a key of ``REFERENCES``.
        source: directory of the checkpoint.
        tokenizer: directory with the tokenizer's files.
        folder: an existing directory for the two files.
        context_length: tokens that the model can see.
        row_length: length of a row of logits or of an embedding in the converted file.
        batch_size: windows run at once.
        threads: threads to compute with.
        trust_remote_code: let transformers run the checkpoint's own code.
        load_dtype: a key of ``ROUNDING``, or None.
        adapters: directories of LoRA adapters that the source is run with.
        stock: only what transformers reads by itself counts.

    Returns:
        ``windows``: how many there are; ``note``: how the source was read, where that should be known; ``unlike``: how
        it differs from the file in the length of a row, where it does, and nothing was written then.

    Raises:
        VerificationError: the source cannot be run.
        EnvironmentFailure: a package is missing or broken, or there is too little memory.
    """
    torch = require("torch")
    torch.set_num_threads(threads)
    reference, text = REFERENCES[kind], encode(Path(tokenizer))
    windows = cut_windows(
        text.prefix,
        text.ids,
        text.suffix if reference.ends else [],
        context_length=context_length,
        row_length=row_length,
        longest=reference.longest,
    )
    model, note = load_source(
        source,
        reference.classes,
        unread=reference.unread,
        trust_remote_code=trust_remote_code,
        load_dtype=load_dtype,
        adapters=adapters or (),
        stock=stock,
    )
    written = results.create(Path(folder), windows, row_length)
    for start in range(0, len(windows), batch_size):
        with torch.inference_mode():
            found = reference.run(model, torch.from_numpy(windows[start : start + batch_size])).float().numpy()
        if found.shape[-1] != row_length:
            unlike = f"the source {reference.row.format(found.shape[-1])} but the file {row_length}"
            return {"windows": 0, "note": note, "unlike": unlike}
        if not np.isfinite(found).all():
            raise VerificationError("the source's own results are not finite")
        written[start : start + batch_size] = found
    return {"windows": len(windows), "note": note}
