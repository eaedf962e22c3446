"""What is tried on a finished file with llama.cpp. Each function is called in a child process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from converter.errors import VerificationError, VocabularyError
from converter.verification.divergence import Divergence
from converter.verification.isolation import answering
from converter.verification.llama import LlamaModel
from converter.verification.reference import IDS, LOGITS

PROMPT = "The function"
NEW_TOKENS = 16


@answering
def generate(path: str, threads: int) -> dict[str, Any]:
    """Load the file, continue a short prompt greedily, and look at every logit on the way.

    Args:
        path: the GGUF file.
        threads: threads to compute with.

    Returns:
        ``generated``: the new tokens' text; ``context_length`` and ``vocab_size`` of the file.

    Raises:
        VerificationError: why llama.cpp cannot run it, or what is wrong with its logits.
    """
    with LlamaModel(Path(path), threads) as model:
        if not model.has_decoder:
            raise VerificationError("the model has no decoder, so it cannot generate text")
        prompt = model.tokenize(PROMPT)
        if not prompt:
            raise VerificationError(f"its vocabulary makes no tokens of {PROMPT!r}")
        model.open_context(len(prompt) + NEW_TOKENS)
        generated: list[int] = []
        logits = model.decode(prompt, 0)
        while True:
            last = logits[-1]
            if last.max() == last.min():
                raise VerificationError(f"all {len(last)} logits are the same ({last[0]:g}), so it predicts nothing")
            generated.append(int(last.argmax()))
            if len(generated) == NEW_TOKENS or model.ends_text(generated[-1]):
                break
            logits = model.decode(generated[-1:], len(prompt) + len(generated) - 1)
        return {
            "generated": model.text(generated),
            "context_length": model.context_length,
            "vocab_size": model.vocab_size,
        }


@answering
def compare(path: str, folder: str, threads: int) -> dict[str, Any]:
    """Run the windows that the source was run on, and add up how far the predictions are apart.

    Args:
        path: the GGUF file.
        folder: where ``reference.write_logits`` left the windows and the source's logits, read one window at a time.
        threads: threads to compute with.

    Returns:
        The figures of ``Divergence`` by name.

    Raises:
        VerificationError: why llama.cpp cannot run it, or what is wrong with its logits.
    """
    ids = np.load(Path(folder) / IDS)
    source = np.load(Path(folder) / LOGITS, mmap_mode="r")
    total = Divergence()
    with LlamaModel(Path(path), threads) as model:
        model.open_context(ids.shape[1])
        for window, expected in zip(ids, source, strict=True):
            total.add(window, expected, model.decode(window.tolist(), 0))
    figures = ("positions", "top1_agreement", "mean_kl", "lost_information", "source_perplexity", "file_perplexity")
    return {figure: getattr(total, figure) for figure in figures}


@answering
def prove(path: str, tokenizer: str) -> dict[str, Any]:
    """Tokenize difficult strings with the file and with the source's tokenizer.

    Args:
        path: the GGUF file.
        tokenizer: directory with the source's tokenizer files.

    Returns:
        ``probes``: how many strings; ``difference``: the first that differs, in words, or empty. Or ``unreadable``:
        why the source's tokenizer cannot be read.

    Raises:
        VerificationError: the file's vocabulary cannot be read.
    """
    from converter.vocabs import prove_file
    from converter.vocabs.files import read_tokenizer_files

    try:
        read_tokenizer_files(Path(tokenizer))
    except VocabularyError as error:
        return {"unreadable": str(error)}
    try:
        proof = prove_file(Path(path), Path(tokenizer))
    except VocabularyError as error:
        raise VerificationError(str(error)) from error
    return {"probes": proof.probes, "difference": "" if proof.agreeing else str(proof.difference)}
