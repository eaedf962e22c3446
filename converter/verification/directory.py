"""Is a finished model directory faithful to its source? Stock transformers loads it, runs it, and compares."""

from __future__ import annotations

import filecmp
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from converter.errors import VerificationError
from converter.verification.isolation import ask
from converter.verification.judge import KINDS, judged
from converter.verification.source_results import SourceResults
from converter.verification.threads import TO_COMPARE, TO_GENERATE, fitting_threads
from converter.verification.verdict import Verification, finished

#: Methods that GGUF lacks, and the one whose thresholds they are held against: a row of 127 steps for thousands of
#: weights is far coarser than a block of 32, and products in bitsandbytes' int8 round the activations as well.
COMPARABLE = {"bnb_4bit": "q4_0", "bnb_8bit": "q5_0"}


def verify_directory(
    path: Path,
    *,
    level: str,
    source: Path,
    tokenizer: Path,
    copied: Mapping[str, Path],
    method: str,
    threads: int | None = None,
    batch_size: int = 1,
    trust_remote_code: bool = False,
    load_dtype: str | None = None,
    adapters: Sequence[Path] = (),
    results: SourceResults | None = None,
    progress: Callable[[str], None] | None = None,
) -> Verification:
    """Verify a finished directory. transformers runs in child processes; nothing is renamed or deleted.

    Args:
        path: the directory, under any name.
        level: ``load`` (stock transformers loads it in the type that it names, every weight in its place, and generates
            from finite logits or makes finite embeddings) or ``full`` (its logits or embeddings are compared with the
            source's as well, both in float32).
        source: the checkpoint's directory.
        tokenizer: directory with the tokenizer's files.
        copied: files that the directory must hold as they are, by their path within it.
        method: the method that made it; it decides the thresholds.
        threads: threads to compute with at most; by default one for each processor.
        batch_size: windows of text that the models are run on at once.
        trust_remote_code: let transformers run the checkpoint's own code.
        load_dtype: ``f16`` or ``bf16`` where the source's weights were rounded to that type first.
        adapters: directories of LoRA adapters that the source is run with.
        results: what the source computed already, for other outputs of it; by default it is run anew.
        progress: called with what comes next.

    Returns:
        The verdict; a directory that cannot be loaded has failed, whatever is wrong with it.

    Raises:
        EnvironmentFailure: the directory or the source cannot be run for a reason that says nothing about the
            directory: a killed process, too little memory, a package, or a source that transformers cannot load.
    """
    started = time.perf_counter()
    tell = progress or (lambda _: None)
    result = Verification(level, passed=False, verdict="")
    if differing := [name for name, file in copied.items() if not filecmp.cmp(path / name, file, shallow=False)]:
        return finished(result, f"the directory is not usable: its {differing[0]} is not the source's", started)
    few, many = (fitting_threads(path, threads, share) for share in (TO_GENERATE, TO_COMPARE))
    try:
        tell("loading the directory with transformers")
        loaded = ask(
            "run_output_transformers:try_out", path=str(path), threads=few, trust_remote_code=trust_remote_code
        )
    except VerificationError as error:
        return finished(result, f"the directory is not usable: {error}", started)
    result, kind = replace(result, generated=loaded["generated"]), KINDS[loaded["kind"]]
    holds = "holds the source's tokenizer" if copied else "has no tokenizer"
    if level == "load":
        return finished(result, f"transformers loads it, it {holds} and {kind.does}", started, passed=True)
    anew = SourceResults(
        source, tokenizer, adapters=adapters, load_dtype=load_dtype, trust_remote_code=trust_remote_code
    )
    request = {name: loaded[name] for name in ("kind", "context_length", "row_length")}
    with (
        nullcontext(results) if results else anew as of_source,
        tempfile.TemporaryDirectory(prefix="results-") as found,
    ):
        expected = of_source.computed(**request, batch_size=batch_size, threads=many, tell=tell)
        if expected.unlike:
            return finished(result, f"the directory is not the source's: {expected.unlike}", started)
        tell(f"comparing the directory's {kind.results} with the source's")
        try:
            figures = ask(
                "run_output_transformers:compare",
                source=str(path),
                tokenizer=str(tokenizer),
                folder=found,
                source_folder=expected.folder,
                batch_size=batch_size,
                threads=many,
                trust_remote_code=trust_remote_code,
                load_dtype=None,
                **request,
            )
        except VerificationError as error:
            return finished(result, f"the directory is not usable: {error}", started)
    besides = "; ".join(filter(None, [f"it {holds}", expected.note]))
    limits = kind.thresholds(COMPARABLE.get(method, method))
    row_length = loaded["row_length"]
    return judged(result, kind, figures, limits, method, besides, started, row_length=row_length, what="directory")
