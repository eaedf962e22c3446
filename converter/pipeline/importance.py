"""Importance matrices measured on any model: made a GGUF first, which llama.cpp then runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.checkpoints import open_checkpoint
from converter.errors import CheckpointError, UsageError
from converter.execution import available_threads
from converter.imatrix.matrix import ImportanceMatrix
from converter.imatrix.measurement import Measurement, Progress, measure
from converter.result import Progress as Step
from converter.sources import Source, open_source

if TYPE_CHECKING:
    from converter.pipeline.located import Located

#: The method that keeps a checkpoint's weights as they are, by the type of the largest; bf16 for any other.
AS_STORED = {"F32": "f32", "F16": "f16"}


def collect_with(
    convert: Callable[..., object],
    model: str | Path,
    texts: Sequence[str | Path],
    output: str | Path,
    *,
    adapters: Sequence[str | Path] = (),
    leave_out: Sequence[str] = (),
    chunk_size: int | None = None,
    chunks: int | None = None,
    threads: int | None = None,
    process_output: bool = False,
    save_every: int = 10,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> ImportanceMatrix:
    """Run a model on texts in llama.cpp and write its importance matrix.

    An interrupted collection goes on from ``<output>.part`` when it is called again with the same model and texts, and
    ends with the same bytes.

    Args:
        convert: :func:`converter.convert`, which makes a checkpoint a GGUF.
        model: a GGUF file, a checkpoint's directory or a model of the Hub, which is converted to a temporary GGUF
            beside the output.
        texts: as the next ones, an attribute of :class:`converter.imatrix.measurement.Measurement`.
        adapters: directories of LoRA adapters that are merged into a checkpoint.
        leave_out: regular expressions of a checkpoint's tensors to do without.
        threads: by default one for each processor this process may use.
        overwrite: replace an existing output.
        progress: called after each chunk, in the calling thread.

    Returns:
        What was written.

    Raises:
        ConversionError: one line that says what is wrong and what to do.
    """
    how = Measurement(
        texts, Path(output), chunk_size, chunks, available_threads() if threads is None else threads, process_output,
        save_every,
    )  # fmt: skip
    how.check(overwrite=overwrite)
    with open_source(model) as found, gguf_of(found, how.output, adapters, convert, leave_out) as (file, identity):
        return measure(file, identity, how, name=str(model), progress=progress or (lambda _: None))


def calibrated(located: Located, convert: Callable[..., object], tell: Callable[[Step], None]) -> Path:
    """Measure an importance matrix beside the output, unless one newer than the model and the texts is there."""
    request = located.request
    path = located.output.with_name(f"{located.output.name}.imatrix.gguf")
    model = located.source.path
    inputs = [*(model.iterdir() if model.is_dir() else [model]), *map(Path, request.calibrate)]
    if path.exists() and all(one.exists() and one.stat().st_mtime < path.stat().st_mtime for one in inputs):
        tell(Step("calibrate", item=f"{path} is up to date"))
        return path
    collect_with(
        convert,
        model,
        request.calibrate,
        path,
        adapters=[adapter.path for adapter in located.adapters],
        leave_out=request.leave_out,
        threads=request.threads,
        overwrite=True,
        progress=lambda at: tell(Step("calibrate", at.done, at.total)),
    )
    return path


@contextmanager
def gguf_of(
    found: Source,
    output: Path,
    adapters: Sequence[str | Path],
    convert: Callable[..., Any],
    leave_out: Sequence[str] = (),
) -> Iterator[tuple[Path, str]]:
    """The model as a GGUF, and what identifies its bytes; a checkpoint's lasts as long as the block.

    Raises:
        ConversionError: there is no such model, it is not on this machine, or it cannot be converted.
    """
    model = found.path
    if found.elsewhere:
        raise UsageError(
            f"{found.model}: an importance matrix is measured on a model on this machine; download it first"
        )
    if not model.is_dir():
        try:
            status = model.stat()
        except OSError as error:
            raise CheckpointError(f"{model}: cannot be read: {error.strerror or error}") from error
        yield model, repr((str(model.absolute()), status.st_size, status.st_mtime_ns))
        return
    with open_checkpoint(model, leave_out=leave_out) as checkpoint:
        files = [(str(file.path), file.size, file.mtime_ns) for file in checkpoint.files]
        identity = repr([*files, *map(str, adapters)])
        stored = max(((tensor.nbytes, tensor.dtype) for tensor in checkpoint.tensors.values()), default=(0, ""))[1]
    temporary = output.with_name(f"{output.name}.model.gguf")
    try:
        method = AS_STORED.get(stored, "bf16")
        convert(
            model,
            method,
            temporary,
            adapters=adapters,
            leave_out=leave_out,
            verify="none",
            overwrite=True,
            catalogue="",
        )
        yield temporary, identity
    finally:
        temporary.unlink(missing_ok=True)
