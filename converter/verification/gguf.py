"""Is a finished file faithful to its source? Load it, run it, and where asked compare every prediction."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.errors import UsageError, VerificationError, VocabularyError
from converter.outputs import nbytes_of
from converter.verification.embedding_thresholds import EmbeddingThresholds
from converter.verification.isolation import ask
from converter.verification.kinds import KINDS, Kind
from converter.verification.source_results import SourceResults
from converter.verification.thresholds import Thresholds, thresholds_for

if TYPE_CHECKING:
    from converter.vocabs import TokenizerProof

LEVELS = ("load", "full")

#: Bytes of the file worth a thread. With less to do, threads wait for each other, and badly on a busy machine.
TO_GENERATE = 1 << 30  # every weight is read once for each token
TO_COMPARE = 64 << 20  # every weight is used on a whole window of tokens


@dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        level: ``load`` or ``full``.
        passed: whether the file may be used.
        verdict: one sentence: what was checked and with what result, or what failed and how far.
        generated: the text that the file continued a short prompt with; empty for an encoder.
        probes: difficult strings whose token ids agreed with the source's tokenizer.
        top1_agreement: share of positions where file and source put the same token first. This and the next four are
            None below ``full`` and for an encoder.
        mean_kl: mean KL(source || file) in nats.
        lost_information: mean KL as a share of the mean KL(source || uniform).
        source_perplexity: of the source on the built-in passage.
        file_perplexity: of the file on the same tokens.
        cosine: mean cosine of an encoder's embeddings with the source's; None below ``full`` and for other models, as
            the next one.
        centred_cosine: the same without the source's mean embedding.
        thresholds: what the figures were held against; None below ``full``.
        seconds: how long it took.
    """

    level: str
    passed: bool
    verdict: str
    generated: str = ""
    probes: int = 0
    top1_agreement: float | None = None
    mean_kl: float | None = None
    lost_information: float | None = None
    source_perplexity: float | None = None
    file_perplexity: float | None = None
    cosine: float | None = None
    centred_cosine: float | None = None
    thresholds: Thresholds | EmbeddingThresholds | None = None
    seconds: float = 0.0


def verify(
    path: Path,
    *,
    level: str,
    source: Path,
    tokenizer: Path | None,
    method: str,
    pre: str | None = None,
    threads: int | None = None,
    batch_size: int = 1,
    trust_remote_code: bool = False,
    load_dtype: str | None = None,
    adapters: Sequence[Path] = (),
    results: SourceResults | None = None,
    proof: TokenizerProof | None = None,
    progress: Callable[[str], None] | None = None,
) -> Verification:
    """Verify a finished file. llama.cpp and transformers run in child processes; nothing is renamed or deleted.

    Args:
        path: the GGUF file, under any name.
        level: ``load`` (llama.cpp loads it, tokenizes as the source does, generates from finite logits or makes finite
            embeddings) or ``full`` (its logits or embeddings are compared with the source's as well).
        source: the checkpoint's directory.
        tokenizer: directory with the tokenizer's files; None where the source is a GGUF, whose vocabulary was copied.
        method: the method that made the file; it decides the thresholds.
        pre: the pre-tokenizer that the user insisted on: ids that differ are told, but do not fail the file.
        threads: threads to compute with at most; by default one for each processor.
        batch_size: windows of text that the source is run on at once.
        trust_remote_code: let transformers run the checkpoint's own code.
        load_dtype: ``f16`` or ``bf16`` where the source's weights were rounded to that type first.
        adapters: directories of LoRA adapters that the source is run with.
        results: what the source computed already, for other outputs of it; by default it is run anew.
        proof: of the vocabulary before it was written; the file is held against the same answers of the source. None:
            the source is asked anew.
        progress: called with what comes next.

    Returns:
        The verdict; a file that cannot be loaded has failed, whatever is wrong with it.

    Raises:
        UsageError: no such level or method.
        VocabularyError: the tokenizer's own files cannot be read.
        VerificationError: the source cannot be run, so a full verification is impossible.
    """
    if level not in LEVELS:
        raise UsageError(f"verification level {level!r} does not exist; choose {' or '.join(LEVELS)}")
    thresholds_for(method)  # an unknown method is refused before any work
    started = time.perf_counter()
    tell = progress or (lambda _: None)
    few, many = (fitting_threads(path, threads, share) for share in (TO_GENERATE, TO_COMPARE))
    result = Verification(level, passed=False, verdict="")
    try:
        tell("loading the file with llama.cpp")
        loaded = ask("run_output_llama_cpp:try_out", path=str(path), threads=few, probes=proof.asked if proof else [])
        result = replace(result, generated=loaded["generated"])
        tell("tokenizing difficult strings with both tokenizers")
        if tokenizer is None:
            tokenized, probes = "keeps its source's vocabulary", 0
        elif proof is None:
            tokenized, probes = check_tokens(path, tokenizer, pre)
        else:
            tokenized, probes = told(proof.difference_of(loaded["ids"]), proof.probes, pre)
        result = replace(result, probes=probes)
    except VerificationError as error:
        return finished(result, f"the file is not usable: {error}", started)
    kind = KINDS[loaded["kind"]]
    if level == "load":
        verdict = f"llama.cpp loads the file, {tokenized} and {kind.does}"
        return finished(result, verdict, started, passed=True)
    if tokenizer is None:
        raise VerificationError(
            f"{source}: a GGUF source cannot be run by transformers; verify with level load instead"
        )
    anew = SourceResults(
        source, tokenizer, adapters=adapters, load_dtype=load_dtype, trust_remote_code=trust_remote_code
    )
    with nullcontext(results) if results else anew as of_source:
        sizes = loaded["context_length"], loaded["row_length"]
        folder = of_source.folder(loaded["kind"], *sizes, batch_size=batch_size, threads=many, tell=tell)
        tell(f"comparing the file's {kind.results} with the source's")
        try:
            figures = ask("run_output_llama_cpp:compare", path=str(path), folder=folder, threads=many)
        except VerificationError as error:
            return finished(result, f"the file is not usable: {error}", started)
    limits, row_length = kind.thresholds(method), loaded["row_length"]
    return judged(result, kind, figures, limits, method, f"it {tokenized}", started, row_length=row_length)


def judged(
    result: Verification,
    kind: Kind,
    figures: Mapping[str, Any],
    limits: Thresholds | EmbeddingThresholds,
    method: str,
    besides: str,
    started: float,
    *,
    row_length: int,
    what: str = "file",
) -> Verification:
    """Hold measured figures against thresholds.

    Args:
        result: what was found so far.
        kind: of the model.
        figures: what was measured, by name.
        limits: the thresholds.
        method: what made the output, for the verdict.
        besides: the end of a good verdict.
        started: when the verification began.
        row_length: of a row of logits or an embedding.
        what: the output, in a word.
    """
    measured = {name: figures[name] for name in kind.figures}
    result = replace(result, thresholds=limits, **measured)
    excesses = limits.exceeded_by(measured, row_length)
    counted, name = kind.compared
    over = f"over {figures[counted]:,} {name}"
    if excesses:
        return finished(result, f"the {what} is not faithful {over}, for {method}: {'; '.join(excesses)}", started)
    return finished(result, f"faithful {over}: {kind.in_words(measured)}; {besides}", started, passed=True)


def finished(result: Verification, verdict: str, started: float, *, passed: bool = False) -> Verification:
    return replace(result, passed=passed, verdict=verdict, seconds=time.perf_counter() - started)


def check_tokens(path: Path, tokenizer: Path, pre: str | None) -> tuple[str, int]:
    """Let the file and the source tokenize the same strings.

    Returns:
        The finding in words, and the number of strings whose ids agreed.

    Raises:
        VerificationError: the ids differ and nobody insisted on that.
        VocabularyError: the source's tokenizer cannot be read.
    """
    proof = ask("run_output_llama_cpp:prove", path=str(path), tokenizer=str(tokenizer))
    if "unreadable" in proof:
        raise VocabularyError(proof["unreadable"])
    return told(proof["difference"], proof["probes"], pre)


def told(difference: object, probes: int, pre: str | None) -> tuple[str, int]:
    """The finding in words, and the number of strings whose ids agreed.

    Args:
        difference: the first difference; empty where there is none.
        probes: strings compared.
        pre: the pre-tokenizer that the user insisted on.

    Raises:
        VerificationError: the ids differ and nobody insisted on that.
    """
    if not difference:
        return f"tokenizes {probes} difficult strings as the source does", probes
    if pre is None:
        raise VerificationError(f"it does not tokenize as the source does: {difference}")
    return f"does not tokenize as the source does with --pre {pre} ({difference})", 0


def fitting_threads(path: Path, threads: int | None, share: int) -> int:
    """Threads worth using: those asked for, or one for each processor, but at most one for each ``share`` bytes."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(threads or processors, nbytes_of(path) // share))
