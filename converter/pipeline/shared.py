"""What requests of one model share: each is had once, and where it can't be had, that is the failure of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from converter.errors import ConversionError
from converter.execution import available_threads
from converter.model import OpenModel, open_model
from converter.request import Request
from converter.result import Progress, Result
from converter.sources import Source

if TYPE_CHECKING:
    from converter.catalogue import Bookkeeping, Hashing
    from converter.verification.source_results import SourceResults

T = TypeVar("T")


class Once(Generic[T]):
    """A value that is made when it is first asked for; a failure to make it is raised each time."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []
        self._failure: ConversionError | None = None

    def __call__(self) -> T:
        if self._failure is not None:
            raise self._failure
        if not self._made:
            try:
                self._made.append(self._make())
            except ConversionError as error:
                self._failure = error
                raise
        return self._made[0]


@dataclass(frozen=True)
class Found:
    """Where a model's files are, once they are on this machine or known to be readable from elsewhere.

    Attributes:
        source: the model.
        tokenizer: directory of the tokenizer's files; None for the model's own.
        adapters: the adapters.
        leave_out: regular expressions of the tensors to do without.
    """

    source: Source
    tokenizer: Path | None
    adapters: tuple[Source, ...]
    leave_out: tuple[str, ...]


class Shared:
    """A context manager; leaving it closes everything that the requests opened.

    Args:
        requests: at least one; what they share is asked for by the first.
        tell: called with each step.
        convert: :func:`converter.convert`, for what has to be converted on the way.

    Attributes:
        tell: called with each step.
        convert: as given.
        threads: to convert with.
        stack: closes what the stages open.
        found: where the model's files are.
        model: the model, opened.
    """

    def __init__(
        self, requests: Sequence[Request], tell: Callable[[Progress], None], convert: Callable[..., Result]
    ) -> None:
        self.tell = tell
        self.convert = convert
        self.threads = max((request.threads or 0 for request in requests), default=0) or available_threads()
        self.stack = ExitStack()
        self.found = Once(lambda: self._find(requests[0]))
        self.model = Once(self._open)
        self._catalogues: dict[Path | None, Bookkeeping] = {}
        self._hashings: dict[Bookkeeping, list[Hashing]] = {}
        self._results: dict[tuple[str | None, bool], SourceResults] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()

    def _find(self, request: Request) -> Found:
        """Bring the files here, as far as they have to be.

        Raises:
            CheckpointError: something cannot be found, read or stored.
            UsageError: an address that is none.
        """
        from converter.sources import open_source

        def find(model: str | Path, *, stream: bool = False, weights: bool = True) -> Source:
            source = open_source(
                model, stream=stream, weights=weights,
                progress=lambda item, done, total: self.tell(Progress("fetch", done, total, item)),
            )  # fmt: skip
            return self.stack.enter_context(source)

        return Found(
            find(request.model, stream=request.stream),
            None if request.tokenizer is None else find(request.tokenizer, weights=False).path,
            tuple(find(adapter) for adapter in request.adapters),
            tuple(request.leave_out),
        )

    def _open(self) -> OpenModel:
        found = self.found()
        self.tell(Progress("read", item=found.source.model))
        opened = open_model(found.source, found.tokenizer, found.adapters, leave_out=found.leave_out)
        return self.stack.enter_context(opened)

    def catalogue(self, path: Path | None, warn: Callable[[str], None]) -> Bookkeeping:
        """The catalogue of this path, its troubles told to the first who asks for it; None records nothing."""
        from converter.catalogue import Bookkeeping

        if path not in self._catalogues:
            self._catalogues[path] = self.stack.enter_context(Bookkeeping(path, warn))
        return self._catalogues[path]

    def hashings(self, books: Bookkeeping) -> list[Hashing]:
        """What is being hashed for a catalogue, to which more may be added."""
        return self._hashings.setdefault(books, [])

    def source_results(self, load_dtype: str | None, *, trust_remote_code: bool) -> SourceResults:
        """What the source computes, its weights rounded to a type first: run when they are first asked for."""
        from converter.verification.source_results import SourceResults

        key = load_dtype, trust_remote_code
        if key not in self._results:
            model = self.model()
            self._results[key] = self.stack.enter_context(
                SourceResults(
                    model.path,
                    model.tokenizer,
                    adapters=model.adapters,
                    load_dtype=load_dtype,
                    trust_remote_code=trust_remote_code,
                )
            )
        return self._results[key]
