"""A measurement from end to end: a child process that runs a GGUF on text, and the file of what it found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from converter.errors import EnvironmentFailure, OutputError, UsageError
from converter.imatrix.files import check_suffix, write_imatrix
from converter.imatrix.gguf_file import read_gguf
from converter.imatrix.matrix import ImatrixError, ImportanceMatrix
from converter.imatrix.text import read_text
from converter.outputs import check_output, make_parents
from converter.runtime import IsolatedFailure, run_isolated
from converter.runtime.environment import environment_failure


@dataclass(frozen=True)
class Progress:
    """Where a measurement stands, in tokens.

    Attributes:
        done: tokens that were run, those of an interrupted run included.
        total: all of them.
    """

    done: int
    total: int


@dataclass(frozen=True)
class Measurement:
    """How a model is run.

    Attributes:
        texts: UTF-8 files, run one after the other in chunks; what is left at the end is not run.
        output: a name in ``.gguf`` or ``.dat``.
        chunk_size: tokens of a chunk; by default 512, or the model's context where that is shorter.
        chunks: how many at most; by default all.
        threads: to compute with.
        process_output: include ``output.weight``, which llama.cpp leaves out unless asked.
        save_every: chunks between two times that the unfinished file is written.
    """

    texts: Sequence[str | Path]
    output: Path
    chunk_size: int | None
    chunks: int | None
    threads: int
    process_output: bool
    save_every: int

    def check(self, *, overwrite: bool) -> None:
        """Refuse before any work what cannot be read, run or written.

        Args:
            overwrite: an existing output is replaced.

        Raises:
            UsageError: a number below 1, no text, or an output whose name tells no format.
            OutputError: the output cannot be written.
            ImatrixError: a text cannot be read.
        """
        check_suffix(self.output)
        check_output(self.output, overwrite=overwrite)
        for name in ("chunk_size", "chunks", "threads", "save_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}, at least 1 expected")
        if not self.texts:
            raise UsageError("no text is given, at least one file expected")
        for text in self.texts:
            read_text(Path(text))


def measure(
    file: Path, identity: str, how: Measurement, *, name: str, progress: Callable[[Progress], None]
) -> ImportanceMatrix:
    """Run a GGUF on texts in llama.cpp and write its importance matrix.

    An interrupted measurement goes on from ``<output>.part`` when it is made of the same model and texts again, and
    ends with the same bytes.

    Args:
        file: the GGUF.
        identity: what identifies the bytes of the model.
        how: checked already.
        name: the model as the user knows it.
        progress: called after each chunk, in the calling thread.

    Raises:
        ImatrixError: the model cannot be run on the texts.
        OutputError: the file cannot be written.
    """
    make_parents(how.output)
    part = how.output.with_name(f"{how.output.name}.part")

    def tell(report: dict[str, int]) -> None:
        progress(Progress(report["done"] * report["chunk_size"], report["chunks"] * report["chunk_size"]))

    try:
        answer = run_isolated(
            "converter.imatrix.run:run", progress=tell, model=str(file), source=identity, part=str(part),
            texts=[str(text) for text in how.texts], chunk_size=how.chunk_size, chunks=how.chunks,
            threads=how.threads, process_output=how.process_output, save_every=how.save_every,
        )  # fmt: skip
    except IsolatedFailure as failure:
        if (environment := environment_failure(failure)) is not None:
            raise EnvironmentFailure(f"{name}: no importance matrix is measured: {environment}") from failure
        raise ImatrixError(f"{name}: the process that runs it {failure.how}") from failure
    if "unwritable" in answer:
        raise OutputError(answer["unwritable"])
    if "failure" in answer:
        raise ImatrixError(f"{name}: {answer['failure']}")
    matrix = replace(read_gguf(part)[0], origin=str(how.output))
    write_imatrix(how.output, matrix)
    part.unlink()
    return matrix
