"""What the source itself computes, with transformers in float32. Called in a child process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.errors import VerificationError
from converter.verification.isolation import answering
from converter.verification.windows import EMBEDDED, WINDOW, cut_windows, encode

if TYPE_CHECKING:
    import torch

IDS, RESULTS = "ids.npy", "results.npy"

#: Characters of another library's message that are passed on.
MAX_REASON = 400

#: The types weights can be rounded to before anything else, as a plan names them and as torch does.
ROUNDING = {"f16": "float16", "bf16": "bfloat16"}


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
    lambda model, ids: model(ids).last_hidden_state,
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
) -> dict[str, Any]:
    """Run the source over windows of the passage and leave tokens and results in ``folder``.

    ``ids.npy`` is int64 (windows, window), ``results.npy`` float32 (windows, window, row_length).

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

    Returns:
        ``windows``: how many there are.

    Raises:
        VerificationError: transformers cannot load the source, or it does not fit the file.
    """
    import torch

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
    np.save(Path(folder) / IDS, windows)
    model = load_source(
        source, reference, trust_remote_code=trust_remote_code, load_dtype=load_dtype, adapters=adapters or ()
    )
    results = np.lib.format.open_memmap(
        Path(folder) / RESULTS, mode="w+", dtype=np.float32, shape=(*windows.shape, row_length)
    )
    for start in range(0, len(windows), batch_size):
        with torch.inference_mode():
            found = reference.run(model, torch.from_numpy(windows[start : start + batch_size])).float().numpy()
        if found.shape[-1] != row_length:
            raise VerificationError(f"the source {reference.row.format(found.shape[-1])} but the file {row_length}")
        if not np.isfinite(found).all():
            raise VerificationError("the source's own results are not finite")
        results[start : start + batch_size] = found
    results.flush()
    return {"windows": len(windows)}


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}…"


def load_source(
    source: str, reference: Reference, *, trust_remote_code: bool, load_dtype: str | None, adapters: Sequence[str] = ()
) -> torch.nn.Module:
    """The checkpoint as transformers runs it: float32 on the CPU, attention computed step by step."""
    import torch

    model: Any
    try:
        model, info = auto_class(source, reference.classes, trust_remote_code=trust_remote_code).from_pretrained(
            source,
            dtype=torch.float32,
            attn_implementation="eager",
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # a stranger's files: transformers raises whatever it meets
        raise VerificationError(f"transformers cannot load it: {one_line(error)}") from error
    missing = sorted(name for name in info["missing_keys"] if not name.startswith(reference.unread))
    if missing:
        raise VerificationError(f"transformers finds no weights for {', '.join(missing[:3])}")
    if adapters:
        from converter.adapters.reference import with_adapters

        try:
            model = with_adapters(model, adapters, merged=load_dtype is not None)
        except ImportError:
            raise VerificationError(
                "PEFT, which runs the source with its adapters, is missing: pip install peft"
            ) from None
        except Exception as error:  # as above
            raise VerificationError(f"PEFT cannot load the adapters: {one_line(error)}") from error
    if load_dtype is not None:
        rounded = getattr(torch, ROUNDING[load_dtype])
        for parameter in model.parameters():
            parameter.data = parameter.data.to(rounded).float()
    return model.eval()  # type: ignore[no-any-return]


def auto_class(source: str, names: tuple[str, ...], *, trust_remote_code: bool) -> Any:
    """The first of transformers' auto classes that knows the checkpoint's configuration; the last one otherwise."""
    import transformers

    *preferred, last = (getattr(transformers, name) for name in names)
    if preferred:
        config = transformers.AutoConfig.from_pretrained(
            source, trust_remote_code=trust_remote_code, local_files_only=True
        )
    return next((found for found in preferred if type(config) in found._model_mapping), last)
