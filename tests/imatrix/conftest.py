"""The sample model and a random mixture of experts as float32 files, and what was collected from them once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from checkpoint_builder import write_model
from tokenizers import Tokenizer, processors

from converter import convert
from converter.imatrix import ImportanceMatrix
from converter.pipeline import collect

SAMPLE = Path(__file__).parent.parent / "fixtures" / "sample"
TEXT = SAMPLE / "heldout.txt"
CHUNK_SIZE, CHUNKS = 64, 4


@dataclass(frozen=True)
class Collected:
    """A checkpoint, its float32 GGUF, and the matrix of the text's first chunks."""

    checkpoint: Path
    file: Path
    matrix: ImportanceMatrix
    path: Path


def without_first_token(checkpoint: Path) -> Path:
    """Let the tokenizer say that nothing is added around a text."""
    file = str(checkpoint / "tokenizer.json")
    tokenizer = Tokenizer.from_file(file)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.save(file)
    return checkpoint


@pytest.fixture(scope="session")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Collected]:
    """By name: ``sample``, or a variation of a family."""
    made: dict[str, Collected] = {}

    def by_name(name: str) -> Collected:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            checkpoint = SAMPLE if name == "sample" else without_first_token(write_model(folder / "model", name))
            file = convert(checkpoint, "f32", folder / "f32.gguf", verify="none").output
            path = folder / "imatrix.gguf"
            matrix = collect(
                file, [TEXT], path, chunk_size=CHUNK_SIZE, chunks=CHUNKS, threads=1, process_output=name == "sample"
            )
            made[name] = Collected(checkpoint, file, matrix, path)
        return made[name]

    return by_name


@pytest.fixture(scope="session")
def sample(collected: Callable[[str], Collected]) -> Collected:
    return collected("sample")
