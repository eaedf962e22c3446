"""A conversion from end to end: checkpoint → family → plan → file → verification."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from converter.errors import ConversionError, OutputError, UsageError, VerificationError

if TYPE_CHECKING:
    from converter.checkpoints import Checkpoint
    from converter.preparation import Prepared
    from converter.recipes import Method, Overrides
    from converter.verification import Verification

FORMATS = ("gguf", "safetensors", "pytorch")
VERIFY_LEVELS = ("none", "load", "full")
#: Suffixes that promise another format than the one they are asked for with.
SUFFIX_FORMATS = {".safetensors": "safetensors", ".bin": "pytorch", ".pt": "pytorch", ".pth": "pytorch"}


@dataclass(frozen=True)
class Progress:
    """Where a conversion stands.

    Attributes:
        stage: ``read``, ``calibrate``, ``write`` or ``verify``.
        done: bytes of the output's tensors written so far, or tokens of the calibration run.
        total: all of them; 0 where the stage has no measure.
        item: the tensor or step at hand.
    """

    stage: str
    done: int = 0
    total: int = 0
    item: str = ""


@dataclass(frozen=True)
class Result:
    """What a conversion made.

    Attributes:
        output: the file; not there after a dry run.
        method: the method's name.
        source_bytes: bytes of the source's tensors.
        output_bytes: bytes of the output's tensors, or of the whole file once it is written.
        weights: number of elements of all tensors.
        bits_per_weight: of all tensors together.
        tensor_types: type of each tensor, in the order of the file.
        tensor_shapes: shape of each tensor, row-major.
        seconds: by stage: ``read``, ``write``, ``verify``.
        resumed: tiles of an earlier run were kept.
        warnings: what the user should know, one sentence each.
        verification: the verdict; None after a dry run or with ``verify="none"``.
    """

    output: Path
    method: str
    source_bytes: int
    output_bytes: int
    weights: int
    bits_per_weight: float
    tensor_types: Mapping[str, str]
    tensor_shapes: Mapping[str, tuple[int, ...]]
    seconds: Mapping[str, float]
    resumed: bool = False
    warnings: tuple[str, ...] = ()
    verification: Verification | None = None


def convert(
    model: str | Path,
    method: str,
    output: str | Path | None = None,
    *,
    output_format: str = "gguf",
    tokenizer: str | Path | None = None,
    pre: str | None = None,
    imatrix: Sequence[str | Path] = (),
    calibrate: Sequence[str | Path] = (),
    overrides: Overrides | None = None,
    allow_requantize: bool = False,
    threads: int | None = None,
    dry_run: bool = False,
    verify: str = "load",
    overwrite: bool = False,
    torch_dtype: str = "auto",
    trust_remote_code: bool = False,
    batch_size: int = 1,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Convert a checkpoint to a verified file.

    Args:
        model: directory of a Hugging Face checkpoint, or a GGUF file.
        method: a name of ``converter.recipes.METHODS``.
        output: the file to write, or a directory for it; by default ``<model>-<method>.gguf`` here.
        output_format: ``gguf``.
        tokenizer: directory with the tokenizer's files, where they are not in ``model``.
        pre: name of llama.cpp's pre-tokenizer, overriding the one derived and proved.
        imatrix: importance matrices, added up.
        calibrate: texts on which an importance matrix is measured first; it is kept as ``<output>.imatrix.gguf``.
        overrides: what the user decides instead of the method.
        allow_requantize: quantize what a GGUF source holds quantized already.
        threads: worker threads; by default one for each processor this process may use.
        dry_run: plan and prove, write nothing.
        verify: ``none``, ``load`` (llama.cpp loads it, tokenizes alike, generates) or ``full`` (logits compared with
            the source's).
        overwrite: replace an existing output.
        torch_dtype: ``auto``, or a dtype that the weights are rounded to first, as loading a model in it would.
        trust_remote_code: let transformers run the checkpoint's own code in a full verification.
        batch_size: windows of text at a time in a full verification.
        progress: called with each step, in the calling thread.

    Returns:
        What was made. A file that fails verification is kept as ``<output>.rejected`` and raises.

    Raises:
        ConversionError: one line that says what is wrong and what to do.
    """
    from converter.preparation import LOAD_DTYPES, prepare
    from converter.recipes import Overrides, find_method

    started = time.perf_counter()
    tell = progress or (lambda _: None)
    chosen = find_method(method)
    check_choices(output_format, verify, threads)
    if torch_dtype not in LOAD_DTYPES:
        raise UsageError(f"torch_dtype {torch_dtype!r} does not exist; choose {', '.join(LOAD_DTYPES)}")
    source = Path(model)
    target = output_path(output, source, chosen, output_format)
    check_output(target, overwrite=overwrite or dry_run)
    if calibrate and not dry_run:
        imatrix = [*imatrix, calibrated(source, calibrate, target, threads, tell)]
    tell(Progress("read", item=str(source)))
    prepared = prepare(
        source,
        Path(tokenizer or source),
        chosen,
        overrides or Overrides(),
        [Path(path) for path in imatrix],
        pre=pre,
        prove=verify != "none",
        torch_dtype=torch_dtype,
        allow_requantize=allow_requantize,
    )
    check_not_source(target, prepared.checkpoint)
    plan = prepared.plan
    seconds = {"read": time.perf_counter() - started}
    result = partial(
        Result,
        output=target,
        method=chosen.name,
        source_bytes=prepared.checkpoint.nbytes,
        weights=plan.elements,
        bits_per_weight=plan.bits_per_weight,
        tensor_types={planned.target.name: planned.type for planned in plan.tensors},
        tensor_shapes={planned.target.name: planned.target.shape for planned in plan.tensors},
        seconds=seconds,
        warnings=tuple(prepared.warnings),
    )
    if dry_run:
        prepared.checkpoint.close()
        return result(output_bytes=plan.data_bytes)

    def check(path: Path) -> Verification | None:
        if verify == "none":
            return None
        from converter.verification import verify as run_verification

        return run_verification(
            path,
            level=verify,
            source=source,
            tokenizer=None if source.is_file() and tokenizer is None else Path(tokenizer or source),
            method=chosen.name,
            pre=pre,
            threads=threads,
            batch_size=batch_size,
            trust_remote_code=trust_remote_code,
            load_dtype=plan.load_dtype,
            progress=lambda item: tell(Progress("verify", item=item)),
        )

    resumed, verification = write(prepared, target, threads or available_threads(), tell, check, seconds)
    return result(
        output_bytes=target.stat().st_size,
        resumed=resumed,
        verification=verification,
    )


def calibrated(
    model: Path, texts: Sequence[str | Path], target: Path, threads: int | None, tell: Callable[[Progress], None]
) -> Path:
    """Measure an importance matrix beside the output, unless one newer than the model and the texts is there."""
    from converter.imatrix import collect

    path = target.with_name(f"{target.name}.imatrix.gguf")
    inputs = [*(model.iterdir() if model.is_dir() else [model]), *map(Path, texts)]
    if path.exists() and all(one.exists() and one.stat().st_mtime < path.stat().st_mtime for one in inputs):
        tell(Progress("calibrate", item=f"{path} is up to date"))
        return path
    collect(
        model,
        texts,
        path,
        threads=threads,
        overwrite=True,
        progress=lambda at: tell(Progress("calibrate", at.done, at.total)),
    )
    return path


def check_choices(output_format: str, verify: str, threads: int | None) -> None:
    """Refuse values outside their lists; the command line has checked its own already."""
    for name, value, allowed in (
        ("output format", output_format, FORMATS),
        ("verify", verify, VERIFY_LEVELS),
    ):
        if value not in allowed:
            raise UsageError(f"{name} {value!r} does not exist; choose {', '.join(allowed)}")
    if output_format != "gguf":
        raise UsageError(f"output format {output_format} cannot be written yet; use --format gguf")
    if threads is not None and threads < 1:
        raise UsageError(f"threads is {threads}, at least 1 expected")


def available_threads() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def output_path(output: str | Path | None, model: Path, method: Method, output_format: str) -> Path:
    """Where the file goes: the path given, a default name in the directory given, or a default name here."""
    name = model.resolve().name.removesuffix(".gguf")
    default = f"{name}-{method.name}.{output_format}"
    if output is None:
        return Path(default)
    path = Path(output)
    if path.is_dir():
        return path / default
    promised = SUFFIX_FORMATS.get(path.suffix.lower())
    if promised not in (None, output_format):
        raise UsageError(
            f"{path}: the name says {promised} but the format is {output_format}; rename it or set --format"
        )
    return path


def check_not_source(target: Path, checkpoint: Checkpoint) -> None:
    """Refuse to overwrite what is being read."""
    if target.exists() and any(target.samefile(identity.path) for identity in checkpoint.files):
        raise OutputError(f"{target}: is a file of the source; choose another --output")


def check_output(target: Path, *, overwrite: bool) -> None:
    """Refuse a target that cannot or must not be written, before any work."""
    if not target.parent.is_dir():
        raise OutputError(f"{target}: directory {target.parent} does not exist; create it first")
    if target.exists() and not overwrite:
        raise OutputError(f"{target}: exists already; pass --overwrite to replace it or choose another --output")


def write(
    prepared: Prepared,
    target: Path,
    threads: int,
    tell: Callable[[Progress], None],
    check: Callable[[Path], Verification | None],
    seconds: dict[str, float],
) -> tuple[bool, Verification | None]:
    """Write the planned file, verify it while it still has its unfinished name, then give it its final one.

    Returns:
        Whether an earlier run's tiles were kept, and the verification.

    Raises:
        VerificationError: the file is kept as ``<output>.rejected``.
    """
    from converter.execution import UnfinishedFile, execute
    from converter.writers.gguf import write_header

    plan, started = prepared.plan, time.perf_counter()
    total, done = sum(planned.nbytes for planned in plan.tensors), 0

    def wrote(nbytes: int, name: str) -> None:
        nonlocal done
        done += nbytes
        tell(Progress("write", done, total, name))

    with prepared.checkpoint, UnfinishedFile(target, plan.digest(), plan.data_bytes) as unfinished:
        resumed = unfinished.begin(lambda path: write_header(path, prepared.arch, plan))
        try:
            execute(
                plan,
                prepared.checkpoint.tensors,
                unfinished.descriptor,
                unfinished.data_start,
                unfinished.journal,
                threads=threads,
                progress=wrote,
                importance=prepared.importance,
            )
        except OutputError:
            raise  # the same command can go on
        except ConversionError:
            unfinished.discard()
            raise
        seconds["write"] = time.perf_counter() - started
        started = time.perf_counter()
        verification = check(unfinished.path)
        seconds["verify"] = time.perf_counter() - started
        if verification is not None and not verification.passed:
            rejected = unfinished.reject()
            raise VerificationError(f"{verification.verdict}; the file is kept as {rejected}")
        unfinished.finish()
    return resumed, verification
