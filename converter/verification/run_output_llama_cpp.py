"""A finished file run by llama.cpp. Each function is called in a child process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.errors import VerificationError, VocabularyError
from converter.verification import results
from converter.verification.compare import EMBEDDING
from converter.verification.compare import compare as compare_results
from converter.verification.isolation import answering
from converter.verification.llama_cpp_model import LlamaModel
from converter.verification.passage import PASSAGE
from converter.verification.similarity import POOLINGS

PROMPT = "The function"
OTHER_PROMPT = "Water expands when it freezes"
NEW_TOKENS = 8

#: Tokens of the text that is read at once, both exactly and by default: for one token llama.cpp takes other paths than
#: for many.
SAMPLE = 16


@answering
def try_out(path: str, threads: int, probes: Sequence[tuple[str, bool]] = (), folder: str = "") -> dict[str, Any]:
    """Load the file and run a short prompt: continue it greedily or embed it, and look at every number on the way.

    Args:
        path: the GGUF file.
        threads: threads to compute with.
        probes: texts to tokenize, and for each whether begin and end tokens are added to it.
        folder: where to leave the results of a short text for :func:`try_defaults`; nowhere where it is empty.

    Returns:
        ``kind`` of the model; ``generated``: the new tokens' text; ``context_length``; ``row_length``: of a row of
        logits or of an embedding; ``ids``: tokens of each probe.

    Raises:
        VerificationError: why llama.cpp cannot run it, or what is wrong with its results.
    """
    with LlamaModel(Path(path), threads) as model:
        embeds = model.kind in EMBEDDING
        generated = TRIALS[model.kind](model)
        if folder:
            ids = sample_of(model)
            found = RUNS[model.kind](model, ids)
            results.create(Path(folder), np.array([ids]), found.shape[-1])[0, : len(found)] = found
        return {
            "kind": model.kind,
            "generated": generated,
            "context_length": model.context_length,
            "row_length": model.embedding_length if embeds else model.vocab_size,
            "ids": [model.tokenize(text, around=whole, special=True) for text, whole in probes],
        }


@answering
def try_defaults(path: str, threads: int, folder: str) -> dict[str, Any]:
    """Run the text that :func:`try_out` ran, a prompt too, with llama.cpp's own settings, as its users do.

    Args:
        path: the GGUF file.
        threads: threads to compute with.
        folder: where ``try_out`` left its results.

    Returns:
        The figures of ``compare``, by name: how far these results are from the exact ones. None of a reranker, whose
        scores are too few.

    Raises:
        VerificationError: why llama.cpp cannot run it so, or what is wrong with its results.
    """
    (ids,), (expected,) = results.load(Path(folder))
    with LlamaModel(Path(path), threads, exact=False) as model:
        TRIALS[model.kind](model)
        found = RUNS[model.kind](model, ids.tolist())
        alike = model.kind != "reranker"
        return compare_results(model.kind, [(ids, expected[: len(found)], found)]) if alike else {}


@answering
def compare(path: str, folder: str, threads: int) -> dict[str, Any]:
    """Run the windows that the source was run on, and add up how far the results are apart.

    Args:
        path: the GGUF file.
        folder: where the source's ``results`` lie, read one window at a time.
        threads: threads to compute with.

    Returns:
        The figures of ``compare``, by name.

    Raises:
        VerificationError: why llama.cpp cannot run it, or what is wrong with its results.
    """
    ids, source = results.load(Path(folder))
    with LlamaModel(Path(path), threads) as model:
        # A reranker's scores are too few to say how near they are: it is compared by what they are made of.
        model.open_context(ids.shape[1], embeddings=model.kind in EMBEDDING, pooled=model.kind != "reranker")
        run, pool = RUNS[model.kind], POOLINGS[model.pooling if model.kind in EMBEDDING else 0]
        pairs = zip(ids, source, strict=True)
        return compare_results(
            model.kind, ((window, expected, run(model, window.tolist())) for window, expected in pairs), pool
        )


def answered(model: LlamaModel, ids: list[int]) -> NDArray[np.float32]:
    """Predictions of a decoder that repeats what its encoder reads."""
    model.read(ids)
    return model.decode([model.decoder_start, *ids[:-1]], 0)


#: What the open context makes of a text: logits (tokens, vocabulary), embeddings of it or of each token, or scores.
RUNS: Mapping[str, Callable[[LlamaModel, list[int]], NDArray[np.float32]]] = {
    "causal": lambda model, ids: model.decode(ids, 0),
    "encoder": lambda model, ids: model.embed(ids),
    "encoder-decoder": answered,
    "reranker": lambda model, ids: model.embed(ids),
}


def sample_of(model: LlamaModel) -> list[int]:
    """Tokens of the beginning of the passage."""
    return model.tokenize(PASSAGE)[: min(SAMPLE, model.context_length)]


def tokens_of(model: LlamaModel, text: str) -> list[int]:
    """Tokens of a prompt."""
    ids = model.tokenize(text)
    if not ids:
        raise VerificationError(f"its vocabulary makes no tokens of {text!r}")
    return ids


def generate(model: LlamaModel) -> str:
    """Continue a short prompt greedily."""
    prompt = tokens_of(model, PROMPT)
    model.open_context(max(len(prompt) + NEW_TOKENS, SAMPLE))
    return continued(model, prompt)


def answer(model: LlamaModel) -> str:
    """Let the encoder read a short prompt and the decoder answer it greedily."""
    prompt = tokens_of(model, PROMPT)
    model.open_context(max(len(prompt) + NEW_TOKENS, SAMPLE))
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
    model.open_context(max(SAMPLE, *map(len, texts)), embeddings=True)
    first, second = (model.embed(ids).mean(axis=0) for ids in texts)
    if first.max() == first.min():
        raise VerificationError(f"all {len(first)} elements of an embedding are the same ({first[0]:g})")
    if np.allclose(first, second, rtol=1e-5, atol=1e-6 * np.abs(first).max()):
        raise VerificationError("it makes the same embedding of different texts")
    return ""


def rank(model: LlamaModel) -> str:
    """Score two short texts."""
    texts = [tokens_of(model, text)[: model.context_length] for text in (PROMPT, OTHER_PROMPT)]
    model.open_context(max(SAMPLE, *map(len, texts)), embeddings=True)
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


@answering
def prove(path: str, tokenizer: str, changed: Sequence[str] = ()) -> dict[str, Any]:
    """Tokenize difficult strings with the file and with the source's tokenizer.

    Args:
        path: the GGUF file.
        tokenizer: directory with the source's tokenizer files.
        changed: keys that the user decided otherwise.

    Returns:
        ``probes``: how many strings; ``difference``: the first that differs, in words, or empty. Or ``unreadable``:
        why the source's tokenizer cannot be read.

    Raises:
        VerificationError: the file's vocabulary cannot be read, or a key of its tokenizer is not the source's.
    """
    from converter.vocabs import prove_file
    from converter.vocabs.files import read_tokenizer_files

    try:
        read_tokenizer_files(Path(tokenizer))
    except VocabularyError as error:
        return {"unreadable": str(error)}
    try:
        proof = prove_file(Path(path), Path(tokenizer), changed=changed)
    except VocabularyError as error:
        raise VerificationError(str(error)) from error
    return {"probes": proof.probes, "difference": "" if proof.agreeing else str(proof.difference)}
