"""What is tried on a finished file with llama.cpp. Each function is called in a child process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.errors import VerificationError, VocabularyError
from converter.verification.divergence import Divergence
from converter.verification.isolation import answering
from converter.verification.llama_cpp_model import LlamaModel
from converter.verification.run_source import IDS, RESULTS
from converter.verification.similarity import POOLINGS, similarity

PROMPT = "The function"
OTHER_PROMPT = "Water expands when it freezes"
NEW_TOKENS = 8

#: Kinds of models whose file makes embeddings of texts, and no logits.
EMBEDDING = ("encoder", "reranker")

#: A window's tokens and what the source computed for them.
Windows = Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]


@answering
def try_out(path: str, threads: int, probes: Sequence[tuple[str, bool]] = ()) -> dict[str, Any]:
    """Load the file and run a short prompt: continue it greedily or embed it, and look at every number on the way.

    Args:
        path: the GGUF file.
        threads: threads to compute with.
        probes: texts to tokenize, and for each whether begin and end tokens are added to it.

    Returns:
        ``kind`` of the model; ``generated``: the new tokens' text; ``context_length``; ``row_length``: of a row of
        logits or of an embedding; ``ids``: tokens of each probe.

    Raises:
        VerificationError: why llama.cpp cannot run it, or what is wrong with its results.
    """
    with LlamaModel(Path(path), threads) as model:
        embeds = model.kind in EMBEDDING
        return {
            "kind": model.kind,
            "generated": TRIALS[model.kind](model),
            "context_length": model.context_length,
            "row_length": model.embedding_length if embeds else model.vocab_size,
            "ids": [model.tokenize(text, around=whole, special=True) for text, whole in probes],
        }


@answering
def compare(path: str, folder: str, threads: int) -> dict[str, Any]:
    """Run the windows that the source was run on, and add up how far the results are apart.

    Args:
        path: the GGUF file.
        folder: where ``run_source.write_results`` left the windows and the results, read one window at a time.
        threads: threads to compute with.

    Returns:
        The figures of ``Divergence`` or ``similarity`` by name.

    Raises:
        VerificationError: why llama.cpp cannot run it, or what is wrong with its results.
    """
    ids = np.load(Path(folder) / IDS)
    source = np.load(Path(folder) / RESULTS, mmap_mode="r")
    with LlamaModel(Path(path), threads) as model:
        # A reranker's scores are too few to say how near they are: it is compared by what they are made of.
        embeds, pooled = model.kind in EMBEDDING, model.kind != "reranker"
        model.open_context(ids.shape[1], embeddings=embeds, pooled=pooled)
        return COMPARISONS[model.kind](model, zip(ids, source, strict=True))


def tokens_of(model: LlamaModel, text: str) -> list[int]:
    """Tokens of a prompt."""
    ids = model.tokenize(text)
    if not ids:
        raise VerificationError(f"its vocabulary makes no tokens of {text!r}")
    return ids


def generate(model: LlamaModel) -> str:
    """Continue a short prompt greedily."""
    prompt = tokens_of(model, PROMPT)
    model.open_context(len(prompt) + NEW_TOKENS)
    return continued(model, prompt)


def answer(model: LlamaModel) -> str:
    """Let the encoder read a short prompt and the decoder answer it greedily."""
    prompt = tokens_of(model, PROMPT)
    model.open_context(len(prompt) + NEW_TOKENS)
    model.read(prompt)
    return continued(model, [model.decoder_start])


def continued(model: LlamaModel, ids: list[int]) -> str:
    """New tokens' text, each the most likely one after those before."""
    generated: list[int] = []
    logits = model.decode(ids, 0)
    while True:
        last = logits[-1]
        if last.max() == last.min():
            raise VerificationError(f"all {len(last)} logits are the same ({last[0]:g}), so it predicts nothing")
        generated.append(int(last.argmax()))
        if len(generated) == NEW_TOKENS or model.ends_text(generated[-1]):
            return model.text(generated)
        logits = model.decode(generated[-1:], len(ids) + len(generated) - 1)


def embed(model: LlamaModel) -> str:
    """Embed two short texts; nothing is generated."""
    texts = [tokens_of(model, text)[: model.context_length] for text in (PROMPT, OTHER_PROMPT)]
    model.open_context(max(map(len, texts)), embeddings=True)
    first, second = (model.embed(ids).mean(axis=0) for ids in texts)
    if first.max() == first.min():
        raise VerificationError(f"all {len(first)} elements of an embedding are the same ({first[0]:g})")
    if np.allclose(first, second, rtol=1e-5, atol=1e-6 * np.abs(first).max()):
        raise VerificationError("it makes the same embedding of different texts")
    return ""


def rank(model: LlamaModel) -> str:
    """Score two short texts."""
    texts = [tokens_of(model, text)[: model.context_length] for text in (PROMPT, OTHER_PROMPT)]
    model.open_context(max(map(len, texts)), embeddings=True)
    first, second = (model.embed(ids) for ids in texts)
    if np.array_equal(first, second):
        raise VerificationError("it gives different texts the same scores")
    return ""


TRIALS: Mapping[str, Callable[[LlamaModel], str]] = {
    "causal": generate,
    "encoder": embed,
    "encoder-decoder": answer,
    "reranker": rank,
}


def compare_logits(model: LlamaModel, windows: Windows) -> dict[str, Any]:
    """Predictions after each token."""
    total = Divergence()
    for ids, expected in windows:
        total.add(ids, expected, model.decode(ids.tolist(), 0))
    return total.figures()


def compare_answers(model: LlamaModel, windows: Windows) -> dict[str, Any]:
    """Predictions of a decoder that repeats what its encoder reads."""
    total = Divergence()
    for ids, expected in windows:
        model.read(ids.tolist())
        repeated = np.concatenate([[model.decoder_start], ids[:-1]])
        total.add(repeated, expected, model.decode(repeated.tolist(), 0))
    return total.figures()


def compare_embeddings(model: LlamaModel, windows: Windows) -> dict[str, Any]:
    """Embeddings of whole texts, or of each token where the file has no pooling type."""
    pool = POOLINGS[model.pooling]
    both = [(pool(expected), model.embed(ids.tolist())) for ids, expected in windows]
    return similarity([expected for expected, _ in both], [found for _, found in both])


COMPARISONS: Mapping[str, Callable[[LlamaModel, Windows], dict[str, Any]]] = {
    "causal": compare_logits,
    "encoder": compare_embeddings,
    "encoder-decoder": compare_answers,
    "reranker": compare_embeddings,
}


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
