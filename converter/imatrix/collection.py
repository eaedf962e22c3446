"""A collection from end to end: the model as a GGUF, a child process that runs it, the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from converter.errors import CheckpointError, OutputError, UsageError
from converter.imatrix.files import check_suffix
from converter.imatrix.gguf_file import read_gguf
from converter.imatrix.matrix import ImatrixError, ImportanceMatrix
from converter.imatrix.text import read_text
from converter.runtime import IsolatedFailure, run_isolated

if TYPE_CHECKING:
    from converter.sources import Source

#: The method that keeps a checkpoint's weights as they are, by the type of the largest; bf16 for any other.
AS_STORED = {"F32": "f32", "F16": "f16"}


@dataclass(frozen=True)
class Progress:
    """Where a collection stands, in tokens.

    Attributes:
        done: tokens that were run, those of an interrupted run included.
        total: all of them.
    """

    done: int
    total: int


def collect(
    model: str | Path,
    texts: Sequence[str | Path],
    output: str | Path,
    *,
    adapters: Sequence[str | Path] = (),
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
        model: a GGUF file, a checkpoint's directory or a model of the Hub, which is converted to a temporary GGUF
            beside the output.
        texts: UTF-8 files, run one after the other in chunks; what is left at the end is not run.
        output: a name in ``.gguf`` or ``.dat``.
        adapters: directories of LoRA adapters that are merged into a checkpoint.
        chunk_size: tokens of a chunk; by default 512, or the model's context where that is shorter.
        chunks: how many at most; by default all.
        threads: by default one for each processor this process may use.
        process_output: include ``output.weight``, which llama.cpp leaves out unless asked.
        save_every: chunks between two times that the unfinished file is written.
        overwrite: replace an existing output.
        progress: called after each chunk, in the calling thread.

    Returns:
        What was written.

    Raises:
        ConversionError: one line that says what is wrong and what to do.
    """
    from converter.execution import available_threads
    from converter.outputs import check_output
    from converter.sources import open_source

    target = Path(output)
    check_suffix(target)
    check_output(target, overwrite=overwrite)
    numbers = {"chunk_size": chunk_size, "chunks": chunks, "threads": threads, "save_every": save_every}
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}, at least 1 expected")
    if not texts:
        raise UsageError("no text is given, at least one file expected")
    for text in texts:
        read_text(Path(text))
    part = target.with_name(f"{target.name}.part")

    def tell(report: dict[str, int]) -> None:
        if progress is not None:
            progress(Progress(report["done"] * report["chunk_size"], report["chunks"] * report["chunk_size"]))

    with open_source(model) as found, gguf_of(found, target, adapters) as (file, source):
        try:
            answer = run_isolated(
                "converter.imatrix.run:run", progress=tell, model=str(file), source=source, part=str(part),
                texts=[str(text) for text in texts], chunk_size=chunk_size, chunks=chunks,
                threads=threads or available_threads(), process_output=process_output, save_every=save_every,
            )  # fmt: skip
        except IsolatedFailure as failure:
            reason = str(failure).removeprefix("converter.imatrix.run:run").strip()
            raise ImatrixError(f"{model}: the process that runs it {reason}") from failure
    if "unwritable" in answer:
        raise OutputError(answer["unwritable"])
    if "failure" in answer:
        raise ImatrixError(f"{model}: {answer['failure']}")
    matrix = replace(read_gguf(part)[0], origin=str(target))
    matrix.write(target)
    part.unlink()
    return matrix


@contextmanager
def gguf_of(found: Source, output: Path, adapters: Sequence[str | Path]) -> Iterator[tuple[Path, str]]:
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
    from converter.checkpoints import open_checkpoint
    from converter.pipeline import convert

    with open_checkpoint(model) as checkpoint:
        files = [(str(file.path), file.size, file.mtime_ns) for file in checkpoint.files]
        source = repr([*files, *map(str, adapters)])
        stored = max(((tensor.nbytes, tensor.dtype) for tensor in checkpoint.tensors.values()), default=(0, ""))[1]
    temporary = output.with_name(f"{output.name}.model.gguf")
    try:
        method = AS_STORED.get(stored, "bf16")
        convert(model, method, temporary, adapters=adapters, verify="none", overwrite=True, catalogue="")
        yield temporary, source
    finally:
        temporary.unlink(missing_ok=True)
