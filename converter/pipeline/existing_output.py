"""``convert verify``: any file or directory, made here or elsewhere, held against the model that it was made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from converter.catalogue import Bookkeeping, default_catalogue
from converter.errors import OutputError, UsageError, VerificationError
from converter.execution.unverified import Unverified
from converter.formats import FORMATS, find_format
from converter.formats.model_directory import CONFIG, TOKENIZER_FILES, matching
from converter.formats.safetensors_scheme import TORCH_DTYPES
from converter.model import OpenModel, open_model
from converter.recipes import METHODS
from converter.result import Progress
from converter.sources import open_source
from converter.verification import Verification


def verify_output(
    output: str | Path,
    model: str | Path,
    *,
    level: str = "full",
    method: str | None = None,
    tokenizer: str | Path | None = None,
    adapters: Sequence[str | Path] = (),
    pre: str | None = None,
    threads: int | None = None,
    batch_size: int = 1,
    trust_remote_code: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Verification:
    """Verify a finished file or directory.

    One that is still called ``<output>.unverified`` gets its name once it has passed, or becomes ``<output>.rejected``;
    what has its name already stays as it is, whatever is found.

    Args:
        output: a GGUF file, the first of its parts, or a directory of safetensors or PyTorch files.
        model: what it was made of, as ``convert`` takes it.
        level: ``load`` or ``full``.
        method: decides the thresholds; by default the one that the output names.
        tokenizer: where the tokenizer's files are, if not in ``model``.
        adapters: LoRA adapters that were merged into it.
        pre: the pre-tokenizer that its maker insisted on.
        threads: threads to compute with at most; by default one for each processor.
        batch_size: windows of text that the source is run on at once.
        trust_remote_code: let transformers run the checkpoint's own code.
        progress: called with each step, from a single thread.

    Returns:
        The verdict, which may be that it is not faithful.

    Raises:
        UsageError: its method cannot be told.
        OutputError: there is no such output, or its name is taken.
        EnvironmentFailure: the check could not be carried out; nothing is renamed.
        ConversionError: the source cannot be read.
    """
    tell = progress or (lambda _: None)
    kept = Unverified.of(Path(output))
    path = kept.path if kept is not None else Path(output)
    if not path.exists():
        raise OutputError(f"{path}: no such file or directory; give the output to verify")
    if kept is not None:
        kept.check_name()
        path = kept.first
    with ExitStack() as stack:
        find = [stack.enter_context(open_source(one)) for one in (model, *adapters)]
        words = None if tokenizer is None else stack.enter_context(open_source(tokenizer, weights=False)).path
        opened = stack.enter_context(open_model(find[0], words, find[1:]))
        asked = {
            "level": level,
            "source": opened.path,
            "method": method or method_of(path),
            "threads": threads,
            "batch_size": batch_size,
            "trust_remote_code": trust_remote_code,
            "adapters": opened.adapters,
            "progress": lambda step: tell(Progress("verify", item=step)),
        }
        verification = verify_directory(path, opened, asked) if path.is_dir() else verify_gguf(path, opened, pre, asked)
    if kept is not None:
        settle(kept, verification)
    return verification


def verify_gguf(path: Path, model: OpenModel, pre: str | None, asked: dict[str, Any]) -> Verification:
    from converter.verification import verify

    copied = model.header is not None and model.tokenizer == model.path
    return verify(path, tokenizer=None if copied else model.tokenizer, pre=pre, **asked)


def verify_directory(path: Path, model: OpenModel, asked: dict[str, Any]) -> Verification:
    from converter.verification.directory import verify_directory as verify

    copied = matching(model.tokenizer, TOKENIZER_FILES)
    return verify(path, tokenizer=model.tokenizer, copied=copied, **asked)


def settle(kept: Unverified, verification: Verification) -> None:
    """Give an output its name, or call it rejected, and tell the catalogue that knows it.

    Raises:
        VerificationError: it is not faithful; says under which name it is kept.
    """
    with Bookkeeping(default_catalogue(kept.output), lambda _: None) as books:
        if not verification.passed:
            rejected = kept.reject()
            books.forget(kept.output)
            raise VerificationError(f"{verification.verdict}; the file is kept as {rejected}")
        renamed = kept.finish()
        books.verified(kept.output, asdict(verification), renamed)


def method_of(path: Path) -> str:
    """The method that made an output, as it says itself.

    Raises:
        UsageError: it does not say, or says one that is unknown here.
    """
    found = directory_method(path) if path.is_dir() else gguf_method(path)
    if found is None:
        raise UsageError(
            f"{path}: does not say which method made it; pass --method with the one whose thresholds it is held against"
        )
    return found


def gguf_method(path: Path) -> str | None:
    """The method whose file type a GGUF's header names."""
    from converter.gguf.reader import read_gguf_header

    file_type = read_gguf_header(path).value("general.file_type")
    return next((method.name for method in METHODS.values() if method.file_type == file_type), None)


def directory_method(path: Path) -> str | None:
    """The method whose quantization, or type of weights, a directory's config.json names."""
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: {CONFIG} cannot be read: {error}") from None
    quantization = config.get("quantization_config")
    if quantization is None:
        dtypes = {name: method for method, name in TORCH_DTYPES.items()}
        return dtypes.get(config.get("dtype", config.get("torch_dtype")))
    for container in map(find_format, FORMATS):
        for name, scheme in getattr(container, "schemes", {}).items():
            plain, named = scheme.configuration(()), scheme.configuration(("x",))
            alike = {key for key in plain if plain[key] == named[key]}
            if all(quantization.get(key) == plain[key] for key in alike):
                return str(name)
    return None
