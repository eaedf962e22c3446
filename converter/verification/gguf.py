"""Is a finished GGUF faithful to its source? Load it, run it, and where asked compare every prediction."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from converter.errors import EnvironmentFailure, UsageError, VerificationError, VocabularyError
from converter.verification.isolation import ask
from converter.verification.judge import KINDS, judged
from converter.verification.source_results import SourceResults
from converter.verification.threads import TO_COMPARE, TO_GENERATE, fitting_threads
from converter.verification.thresholds import thresholds_for
from converter.verification.verdict import LEVELS, Verification, finished

if TYPE_CHECKING:
    from converter.vocabs import TokenizerProof

#: How far results by llama.cpp's own settings may be from its exact ones: a float16 cache and other orders of adding up
#: change little even in models without training; a kernel that computes something else changes nearly everything.
MOST_LOST, LEAST_COSINE = 0.5, 0.9


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
    changed: Collection[str] = (),
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
        changed: keys under ``tokenizer.`` that the user decided otherwise; all others have to be the source's.
        progress: called with what comes next.

    Returns:
        The verdict; a file that cannot be loaded has failed, whatever is wrong with it.

    Raises:
        UsageError: no such level or method.
        VocabularyError: the tokenizer's own files cannot be read.
        EnvironmentFailure: the file or the source cannot be run for a reason that says nothing about the file: a killed
            process, too little memory, a package, or a source that transformers cannot load.
    """
    if level not in LEVELS:
        raise UsageError(f"verification level {level!r} does not exist; choose {' or '.join(LEVELS)}")
    thresholds_for(method)  # an unknown method is refused before any work
    started = time.perf_counter()
    tell = progress or (lambda _: None)
    few, many = (fitting_threads(path, threads, share) for share in (TO_GENERATE, TO_COMPARE))
    result = Verification(level, passed=False, verdict="")
    with tempfile.TemporaryDirectory(prefix="trial-") as folder:
        try:
            tell("loading the file with llama.cpp")
            asked = proof.asked if proof else []
            loaded = ask("run_output_llama_cpp:try_out", path=str(path), threads=few, probes=asked, folder=folder)
            result = replace(result, generated=loaded["generated"])
            tell("tokenizing difficult strings with both tokenizers")
            if tokenizer is None:
                tokenized, probes = "keeps its source's vocabulary", 0
            elif proof is None:
                tokenized, probes = check_tokens(path, tokenizer, pre, changed)
            else:
                tokenized, probes = told(proof.difference_of(loaded["ids"]), proof.probes, pre)
                check_keys(path, proof, changed)
            result = replace(result, probes=probes)
        except VerificationError as error:
            return finished(result, f"the file is not usable: {error}", started)
        tell("running the file with llama.cpp's own settings")
        result = replace(result, warnings=runs_by_default(path, folder, few))
    kind = KINDS[loaded["kind"]]
    if level == "load":
        verdict = f"llama.cpp loads the file, {tokenized} and {kind.does}"
        return finished(result, verdict, started, passed=True)
    if tokenizer is None:
        raise EnvironmentFailure(
            f"{source}: a GGUF source cannot be run by transformers; verify with level load instead"
        )
    anew = SourceResults(
        source, tokenizer, adapters=adapters, load_dtype=load_dtype, trust_remote_code=trust_remote_code
    )
    with nullcontext(results) if results else anew as of_source:
        sizes = loaded["context_length"], loaded["row_length"]
        computed = of_source.computed(loaded["kind"], *sizes, batch_size=batch_size, threads=many, tell=tell)
        if computed.unlike:
            return finished(result, f"the file is not made of this source: {computed.unlike}", started)
        tell(f"comparing the file's {kind.results} with the source's")
        try:
            figures = ask("run_output_llama_cpp:compare", path=str(path), folder=computed.folder, threads=many)
        except VerificationError as error:
            return finished(result, f"the file is not usable: {error}", started)
    besides = "; ".join(filter(None, [f"it {tokenized}", computed.note]))
    limits, row_length = kind.thresholds(method), loaded["row_length"]
    return judged(result, kind, figures, limits, method, besides, started, row_length=row_length)


def runs_by_default(path: Path, folder: str, threads: int) -> tuple[str, ...]:
    """Run the file with llama.cpp's own settings, as its users do; it has run exactly already.

    Args:
        path: the file.
        folder: where ``run_output_llama_cpp.try_out`` left results.
        threads: threads to compute with.

    Returns:
        What the user should know, one sentence each: where only this fails, the file is right, and llama.cpp isn't.
    """
    build = "the file is right, but this build of llama.cpp"
    try:
        figures = ask("run_output_llama_cpp:try_defaults", path=str(path), threads=threads, folder=folder)
    except EnvironmentFailure as failure:
        if "was killed by" in str(failure):
            return (f"{build} crashes with it on this processor: with its own settings {failure}",)
        return (f"the file could not be run with llama.cpp's own settings: {failure}",)
    except VerificationError as error:
        return (f"{build} does not run it with its own settings on this processor: {error}",)
    lost, cosine = figures.get("lost_information", 0.0), figures.get("cosine", 1.0)
    if lost > MOST_LOST or cosine < LEAST_COSINE:
        far = f"mean KL divergence {figures['mean_kl']:.2g} nats" if lost else f"mean cosine {cosine:.3f}"
        return (f"{build} computes something else with its own settings on this processor ({far} from exact ones)",)
    return ()


def check_keys(path: Path, proof: TokenizerProof, changed: Collection[str]) -> None:
    """Hold the tokenizer's key-values against the source's. Raises VerificationError where one differs."""
    try:
        proof.check_written(path, changed)
    except VocabularyError as error:
        raise VerificationError(str(error)) from error


def check_tokens(path: Path, tokenizer: Path, pre: str | None, changed: Collection[str] = ()) -> tuple[str, int]:
    """Let the file and the source tokenize the same strings, and compare chat templates and special tokens.

    Args:
        path: the GGUF file.
        tokenizer: directory with the source's tokenizer files.
        pre: the pre-tokenizer that the user insisted on.
        changed: keys that the user decided otherwise.

    Returns:
        The finding in words, and the number of strings whose ids agreed.

    Raises:
        VerificationError: the ids differ and nobody insisted on that, or a key does.
        VocabularyError: the source's tokenizer cannot be read.
    """
    proof = ask("run_output_llama_cpp:prove", path=str(path), tokenizer=str(tokenizer), changed=list(changed))
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
