"""Several requests of one model, step by step: what they share is done once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from converter.errors import ConversionError, UsageError
from converter.execution import available_threads, execute
from converter.outputs import nbytes_of
from converter.request import Request
from converter.result import Progress, Result

if TYPE_CHECKING:
    from converter.catalogue import Bookkeeping, Hashing, RequestKey
    from converter.conversion import Conversion
    from converter.opening import Located, OpenModel
    from converter.verification import Verification

#: Bytes of outputs from which on one verification takes all threads.
LARGE = 2 << 30


class Together:
    """The steps of requests that share a model. Each raises ConversionError for the request whose number it is given.

    Args:
        requests: what is asked for.
        conversions: filled with each request's conversion.
        stack: closes what is opened.
        tell: called with each step.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        conversions: dict[int, Conversion],
        stack: ExitStack,
        tell: Callable[[Progress], None],
    ) -> None:
        self.requests = requests
        self.conversions = conversions
        self.stack = stack
        self.tell = tell
        self.threads = max((request.threads or 0 for request in requests), default=0) or available_threads()
        self.keys: dict[int, RequestKey] = {}
        self._started = time.perf_counter()
        self._located: Located | None = None
        self._model: OpenModel | None = None
        self._failure: ConversionError | None = None
        self._books: dict[Path | None, Bookkeeping] = {}
        self._repositories: dict[int, str] = {}
        self._files: dict[int, dict[Path, Path]] = {}
        self._hashings: dict[Bookkeeping, list[Hashing]] = {}
        self._verifications: dict[int, Future[Verification | None]] = {}

    def check(self, number: int) -> None:
        """Refuse choices and outputs before any work; an output that the catalogue knows may be the one asked for."""
        from converter.conversion import Conversion
        from converter.opening import output_name

        request = self.requests[number]
        conversion = self.conversions[number] = Conversion(request, output_name(request.model))
        self.stack.callback(conversion.destination.release)
        if request.push_to_hub and not request.dry_run:
            from converter.destinations.hub import check_push

            self._repositories[number] = check_push(request.push_to_hub)
        if request.dry_run or not self.books(conversion).knows(conversion.output):
            conversion.check_output()

    def books(self, conversion: Conversion) -> Bookkeeping:
        """The catalogue that a conversion is recorded in."""
        from converter.catalogue import Bookkeeping, default_catalogue

        given = conversion.request.catalogue
        path = default_catalogue(conversion.output) if given is None else Path(given) if str(given) else None
        away = given is None and conversion.destination.url is not None
        if away or conversion.request.dry_run or not conversion.output.parent.is_dir():
            path = None
        if path not in self._books:
            self._books[path] = self.stack.enter_context(Bookkeeping(path, conversion.notes.append))
        return self._books[path]

    def once(self, step: Callable[[], None]) -> None:
        """Take a step that all requests share; its failure is that of all of them."""
        if self._failure is None:
            try:
                step()
            except ConversionError as error:
                self._failure = error
        if self._failure is not None:
            raise self._failure

    def locate(self, number: int) -> None:
        """Bring the source's files here as far as they have to be, once."""
        from converter.opening import locate

        def step() -> None:
            self._located = self._located or locate(self.requests[number], self.stack, self.tell)

        self.once(step)
        assert self._located is not None
        request, source = self.requests[number], self._located.source
        if source.elsewhere and (request.calibrate or request.verify == "full"):
            option = "--calibrate" if request.calibrate else "--verify full"
            raise UsageError(
                f"{source.model}: {option} runs the model itself, which is not on this machine; download it"
            )

    def known(self, number: int) -> Result | None:
        """The result of an identical conversion whose output is still there, by the catalogue."""
        from converter.catalogue import Source, input_files, key_of

        assert self._located is not None
        located, conversion = self._located, self.conversions[number]
        source = Source(
            located.source.origin,
            located.source.name,
            input_files(located.source.path),
            {name: f"{at.identity.size}-{at.identity.mtime_ns}" for name, at in located.source.elsewhere.items()},
        )
        choices = {field.name: getattr(conversion.request, field.name) for field in fields(Request)}
        adapters = tuple(adapter.path for adapter in located.adapters)
        places = {"tokenizer": located.tokenizer, "adapters": adapters, "method": conversion.method}
        self.keys[number] = key_of(choices | places, source, conversion.output)
        record = None if conversion.request.force else self.books(conversion).answer(self.keys[number])
        if record is None:
            conversion.check_output()
            return None
        return self.follow_up(number, replace(record.result(), known=True, output_format=record.format))

    def open(self, number: int) -> None:
        """Open the model, once; and measure an importance matrix first where that is asked for."""
        from converter.opening import open_model

        def step() -> None:
            assert self._located is not None
            if self._model is None:
                self.tell(Progress("read", item=self._located.source.model))
                self._model = self.stack.enter_context(open_model(self._located))

        self.once(step)
        conversion = self.conversions[number]
        request = conversion.request
        if request.calibrate and not request.dry_run:
            assert self._located is not None
            measured = calibrated(self._located, request, conversion.output, self.tell)
            conversion.request = replace(request, imatrix=[*request.imatrix, measured])

    @property
    def model(self) -> OpenModel:
        assert self._model is not None
        return self._model

    def prepare(self, number: int) -> None:
        """Plan the output, and begin to read the source for the catalogue meanwhile."""
        books = self.books(self.conversions[number])
        if books not in self._hashings:
            self._hashings[books] = [self.stack.enter_context(books.hashing(self.keys[number].source.files))]
        self.open(number)
        self.conversions[number].prepare(self.model)
        self.conversions[number].seconds["read"] = time.perf_counter() - self._started

    def planned(self, number: int) -> Result:
        """What a dry run tells."""
        return self.conversions[number].planned(self.model)

    def begin(self, number: int) -> None:
        """Open the unfinished output."""
        self.conversions[number].begin(self.stack)

    def groups(self, numbers: Iterable[int]) -> list[list[int]]:
        """Requests whose plans read alike, so that a tile is read once for all of a group."""
        groups: list[list[int]] = []
        for number in numbers:
            plan = self.conversions[number].prepared.plan
            for group in groups:
                if plan.reads_like(self.conversions[group[0]].prepared.plan):
                    group.append(number)
                    break
            else:
                groups.append([number])
        return groups

    def write(self, group: Sequence[int]) -> None:
        """Write the tensors of a group's outputs.

        Raises:
            CheckpointError: the source cannot be read; for all of them.
        """
        started = time.perf_counter()
        jobs = [self.conversions[number].job for number in group]
        total, done = sum(job.plan.data_bytes for job in jobs), 0

        def wrote(nbytes: int, name: str) -> None:
            nonlocal done
            done += nbytes
            self.tell(Progress("write", done, total, name))

        execute(jobs, self.model.checkpoint.tensors, threads=self.threads, progress=wrote)
        for number in group:
            self.conversions[number].seconds["write"] = time.perf_counter() - started

    def written(self, number: int) -> None:
        """Refuse what could not be written."""
        failure = self.conversions[number].job.failure
        if failure is not None:
            raise failure

    def verify(self, numbers: Sequence[int]) -> None:
        """Verify written outputs, and read them for the catalogue meanwhile.

        What each verification finds, or why it could not, is kept for :meth:`complete`.
        """
        steps: SimpleQueue[str | None] = SimpleQueue()
        for number in numbers:
            conversion = self.conversions[number]
            self._files[number] = conversion.files
        for books, hashings in self._hashings.items():
            theirs = [number for number in numbers if self.books(self.conversions[number]) is books]
            files = [path for number in theirs for path in self._files[number]]
            hashings.append(self.stack.enter_context(books.hashing(files, threads=self.at_a_time(numbers))))

        def verify(number: int) -> Verification | None:
            try:
                return self.conversions[number].verify(self.model, steps.put)
            finally:
                steps.put(None)

        with ThreadPoolExecutor(self.at_a_time(numbers), "verify") as pool:
            # The largest first: the threads then end at about the same time.
            order = sorted(numbers, key=lambda number: -sum(map(nbytes_of, self._files[number])))
            self._verifications = {number: pool.submit(verify, number) for number in order}
            running = len(numbers)
            while running:
                step = steps.get()
                if step is None:
                    running -= 1
                else:
                    self.tell(Progress("verify", item=step))

    def at_a_time(self, numbers: Sequence[int]) -> int:
        """Outputs to verify at once: where one takes a single thread and little memory, one for each thread."""
        small = all(
            self.conversions[number].request.verify != "full" and sum(map(nbytes_of, self._files[number])) < LARGE
            for number in numbers
        )
        return max(1, min(self.threads, len(numbers))) if small else 1

    def complete(self, number: int) -> Result:
        """Record a verified output and give it its final name."""
        conversion = self.conversions[number]
        verification = self._verifications[number].result()
        files, outputs = self._files[number], conversion.unfinished.outputs
        result = replace(
            conversion.planned(self.model),
            output=outputs[0],
            output_bytes=sum(map(nbytes_of, files)),
            files=tuple(outputs),
            resumed=conversion.resumed,
            verification=verification,
        )
        books = self.books(conversion)
        books.record(self.keys[number], result, self._hashings[books], files)
        conversion.unfinished.finish()
        return self.follow_up(number, replace(result, warnings=(*conversion.prepared.warnings, *conversion.notes)))

    def follow_up(self, number: int, result: Result) -> Result:
        """What is done with an output that has its final name: a Modelfile, uploads."""
        conversion = self.conversions[number]
        assert self._located is not None
        source = self._located.source
        written = list(result.files or [result.output])
        if conversion.request.modelfile:
            conversion.write_modelfile(result.output, source.path)
            written.append(conversion.modelfile)

        def tell(item: str, done: int, total: int) -> None:
            self.tell(Progress("deliver", done, total, item))

        if number in self._repositories:
            from converter.destinations import CardFacts, model_card
            from converter.destinations.hub import push_to_hub

            repo, readme = self._repositories[number], source.path / "README.md"
            card = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
            facts = CardFacts.of(result, repo=repo, origin=source.origin, name=source.name, source_card=card)
            what = result.output if result.output.is_dir() else written
            url = push_to_hub(what, repo, card=model_card(facts), progress=tell)
            result = replace(result, url=url)
        if conversion.destination.url is not None:
            result = replace(result, url=conversion.destination.deliver(written, tell))
        return result


def calibrated(located: Located, request: Request, output: Path, tell: Callable[[Progress], None]) -> Path:
    """Measure an importance matrix beside the output, unless one newer than the model and the texts is there."""
    from converter.imatrix import collect

    path = output.with_name(f"{output.name}.imatrix.gguf")
    model = located.source.path
    inputs = [*(model.iterdir() if model.is_dir() else [model]), *map(Path, request.calibrate)]
    if path.exists() and all(one.exists() and one.stat().st_mtime < path.stat().st_mtime for one in inputs):
        tell(Progress("calibrate", item=f"{path} is up to date"))
        return path
    collect(
        model,
        request.calibrate,
        path,
        adapters=[adapter.path for adapter in located.adapters],
        threads=request.threads,
        overwrite=True,
        progress=lambda at: tell(Progress("calibrate", at.done, at.total)),
    )
    return path
