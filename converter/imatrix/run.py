"""The child process: a model run on chunks of text while its activations are summed."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.errors import OutputError
from converter.imatrix.activations import LEAST_ROWS, Activations
from converter.imatrix.files import write_whole
from converter.imatrix.gguf_file import read_gguf, write_gguf
from converter.imatrix.matrix import CHUNK_SIZE, Entry, ImatrixError, ImportanceMatrix
from converter.imatrix.observed import ObservedModel
from converter.imatrix.text import chunks_of, read_text


def run(
    model: str,
    source: str,
    texts: list[str],
    part: str,
    chunk_size: int | None,
    chunks: int | None,
    threads: int,
    process_output: bool,
    save_every: int,
) -> Generator[dict[str, int], None, dict[str, str]]:
    """Run the chunks that an unfinished file lacks and leave it complete.

    Args:
        model: the GGUF file.
        source: what identifies the model's bytes.
        texts: UTF-8 files.
        part: the unfinished file, a GGUF whatever the output's format.
        chunk_size: tokens of a chunk; None for 512, or the model's context where that is shorter.
        chunks: how many at most; None for all.
        threads: threads to compute with.
        process_output: as of :class:`Activations`.
        save_every: chunks between two times that the unfinished file is written.

    Yields:
        ``done`` and ``chunks``, counts of chunks, and ``chunk_size``: first what an earlier run left, then each chunk.

    Returns:
        ``{}``; ``failure`` says why the model cannot be run on the texts, ``unwritable`` why the file cannot be saved.
    """
    try:
        read = [read_text(Path(text)) for text in texts]
        with ObservedModel(Path(model), threads) as observed:
            size = checked_size(chunk_size, observed.context_length)
            tokens = chunks_of([observed.token_ids(text) for text in read], size)
            job = digest(source, tokens, process_output)
            tokens = tokens[:chunks]
            done, entries = unfinished(Path(part), job, len(tokens))
            activations = Activations(entries, process_output=process_output)
            observed.observe(activations, size)
            yield {"done": done, "chunks": len(tokens), "chunk_size": size}
            for number in range(done + 1, len(tokens) + 1):
                observed.add_chunk(tokens[number - 1])
                if number % save_every == 0 or number == len(tokens):
                    matrix = ImportanceMatrix(activations.entries, size, number, tuple(texts))
                    write_whole(Path(part), partial(write_gguf, matrix=matrix, run=job))
                yield {"done": number, "chunks": len(tokens), "chunk_size": size}
    except ImatrixError as error:
        return {"failure": str(error)}
    except OutputError as error:
        return {"unwritable": str(error)}
    return {}


def checked_size(chunk_size: int | None, context_length: int) -> int:
    """Tokens of a chunk: as asked, or the usual number as far as the model's context allows.

    Raises:
        ImatrixError: the model was not trained for so many, or so few would not count.
    """
    size = min(CHUNK_SIZE, context_length) if chunk_size is None else chunk_size
    if not LEAST_ROWS <= size <= context_length:
        raise ImatrixError(f"the chunk size is {size}, expected {LEAST_ROWS} to {context_length}, the model's context")
    return size


def digest(source: str, tokens: NDArray[np.int32], process_output: bool) -> str:
    """What a run is about: an unfinished file is continued only by the same."""
    what = f"{source}\n{tokens.shape}\n{process_output}\n".encode()
    return hashlib.sha256(what + tokens.tobytes()).hexdigest()


def unfinished(part: Path, job: str, chunks: int) -> tuple[int, dict[str, Entry]]:
    """Chunks and entries of an earlier run's file, if it is one of the same job; nothing otherwise."""
    try:
        matrix, found = read_gguf(part)
    except (ImatrixError, OSError):
        return 0, {}
    return (matrix.chunk_count, dict(matrix.entries)) if found == job and matrix.chunk_count <= chunks else (0, {})
