"""What a ``--model`` turned out to be, wherever it lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from converter.sources.source_file import SourceFile

#: Told of a download: the file at hand, bytes that are here, bytes of all files.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Source:
    """A model ready to be opened. A context manager: leaving it ends downloads and removes temporary files.

    Attributes:
        model: as the user gave it.
        path: a directory on this machine with every small file of the model, or a GGUF file; one that is read from
            elsewhere is not there, only its name counts.
        elsewhere: files that are not on this machine's disk, by their names in ``path`` (beside it, for a GGUF file).
        origin: what it is: ``hub:organization/name@commit``, with ``/file`` for a GGUF file of it, a URL, or an
            absolute path.
        name: what to call it: the repository's name, the last part of a URL or directory, a GGUF file's stem.
    """

    model: str
    path: Path
    elsewhere: Mapping[str, SourceFile] = field(default_factory=dict)
    origin: str = ""
    name: str = ""
    _leave: tuple[Callable[[], object], ...] = field(default=(), repr=False, compare=False)

    def close(self) -> None:
        """End what is under way and remove what was only here for the conversion."""
        for leave in self._leave:
            leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def no_progress(item: str, done: int, total: int) -> None:
    """Tell nobody."""
