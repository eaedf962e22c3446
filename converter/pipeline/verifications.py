"""How an output of each format is verified."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from converter.formats.model_directory import TOKENIZER_FILES, matching
from converter.pipeline.shared import Shared
from converter.pipeline.written import Written
from converter.verification import Verification

#: Called with what comes next.
Tell = Callable[[str], None]


def verify_gguf(written: Written, shared: Shared, tell: Tell) -> Verification:
    """Load a GGUF in llama.cpp, which is compared with the source; as :func:`converter.verification.verify`."""
    from converter.verification import verify

    model, request, plan = written.model, written.request, written.prepared.plan
    # A name that the user changed afterwards has no proof: the source is asked again.
    name = next((pair.value for pair in plan.metadata if pair.key == "general.name"), "")
    return verify(
        written.path,
        level=request.verify,
        source=model.path,
        tokenizer=None if model.header is not None and request.tokenizer is None else model.tokenizer,
        method=written.method,
        pre=request.pre,
        threads=request.threads,
        batch_size=request.batch_size,
        trust_remote_code=request.trust_remote_code,
        load_dtype=plan.load_dtype,
        adapters=model.adapters,
        results=shared.source_results(plan.load_dtype, trust_remote_code=request.trust_remote_code),
        proof=model.proof(request.pre, name),
        changed=request.overrides.changed_keys,
        progress=tell,
    )


def verify_directory(written: Written, shared: Shared, tell: Tell) -> Verification:
    """Load a directory in stock transformers; as :func:`converter.verification.directory.verify_directory`."""
    from converter.verification.directory import verify_directory as verify

    model, request, plan = written.model, written.request, written.prepared.plan
    return verify(
        written.path,
        level=request.verify,
        source=model.path,
        tokenizer=model.tokenizer,
        copied=matching(model.tokenizer, TOKENIZER_FILES),
        method=written.method,
        threads=request.threads,
        batch_size=request.batch_size,
        trust_remote_code=request.trust_remote_code,
        load_dtype=plan.load_dtype,
        adapters=model.adapters,
        results=shared.source_results(plan.load_dtype, trust_remote_code=request.trust_remote_code),
        progress=tell,
    )


#: By the format's name.
VERIFICATIONS: Mapping[str, Callable[[Written, Shared, Tell], Verification]] = {
    "gguf": verify_gguf,
    "safetensors": verify_directory,
    "pytorch": verify_directory,
}
