"""One conversion's way from a request to a verified output under its final name."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from converter.destinations import Destination, destination
from converter.errors import ConversionError, OutputError, UsageError, VerificationError
from converter.execution import Job, Unfinished
from converter.formats import find_format, find_method
from converter.formats.layout import Prepared
from converter.opening import OpenModel
from converter.outputs import check_output
from converter.request import Request
from converter.result import Result
from converter.verification import Verification

#: Suffixes that promise a format.
SUFFIX_FORMATS = {
    ".gguf": "gguf",
    ".safetensors": "safetensors",
    ".bin": "pytorch",
    ".pt": "pytorch",
    ".pth": "pytorch",
}


class Conversion:
    """What becomes of one request: :meth:`prepare`, :meth:`begin`, the tiles of its ``job``, :meth:`verify`.

    Args:
        request: what is asked for.
        name: what the output is called after where the request doesn't say.

    Attributes:
        request: with the very path to write as its ``output``.
        notes: what the user should know beside what the plan tells.

    Raises:
        UsageError: the format has no such method, or the output's name says another format.
    """

    prepared: Prepared
    unfinished: Unfinished
    job: Job

    def __init__(self, request: Request, name: str) -> None:
        self.request = request
        self.format = find_format(request.output_format)
        self.method = find_method(self.format, request.method)
        self.destination = self._destination(request)
        self.output = self._place(f"{name}-{self.method}{self.format.suffix}")
        self.request = replace(request, output=self.output)
        self.seconds: dict[str, float] = {}
        self.resumed = False
        self.notes: list[str] = []
        if request.modelfile and self.format.name != "gguf":
            raise UsageError(f"a Modelfile is for GGUF files, the format is {self.format.name}; leave --modelfile away")

    def _destination(self, request: Request) -> Destination:
        """Where the output goes, which takes it; a dry run does not ask."""
        output = str(request.output or "")
        if self.format.directory and len(output) > 1:
            output = output.rstrip("/")
        if request.dry_run and "://" in output:
            return Destination(Path(output.rstrip("/").rpartition("/")[2]))
        return destination(output, overwrite=request.overwrite or request.force)

    def check_output(self) -> None:
        """Refuse an output that cannot or must not be written; OutputError."""
        check_output(self.output, overwrite=self.replaces, directory=self.format.directory)
        if self.request.modelfile:
            check_output(self.modelfile, overwrite=self.replaces)

    @property
    def modelfile(self) -> Path:
        """Where Ollama's Modelfile goes."""
        return self.output.with_name(f"{self.output.name.removesuffix('.gguf')}.Modelfile")

    def write_modelfile(self, gguf: Path, source: Path) -> None:
        """Write the Modelfile of a finished GGUF.

        Raises:
            ConversionError: what it says cannot be read from the GGUF or the checkpoint.
        """
        from converter.ollama import modelfile

        text = modelfile(gguf, directory=source if source.is_dir() else None)
        part = self.modelfile.with_name(f"{self.modelfile.name}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(self.modelfile)

    @property
    def replaces(self) -> bool:
        """Whether an existing output is no obstacle."""
        return self.request.overwrite or self.request.force or self.request.dry_run

    def _place(self, default: str) -> Path:
        """The path given, or a default name in the directory given or here."""
        if self.request.output is None:
            return Path(default)
        path = self.destination.local
        promised = SUFFIX_FORMATS.get(path.suffix.lower())
        if path.is_dir() and not self.format.directory:
            return path / default
        if promised not in (None, self.format.name):
            raise UsageError(
                f"{path}: the name says {promised} but the format is {self.format.name}; rename it or set --format"
            )
        return path

    def prepare(self, model: OpenModel) -> None:
        """Plan the output; ConversionError where it cannot be made."""
        self.prepared = self.format.prepare(model, self.request)
        inputs = [file.path for file in model.checkpoint.files]
        layout = self.prepared.layout
        beside = [] if layout.gathered else [self.output.with_name(name) for name in layout.names]
        for output in beside:
            check_output(output, overwrite=self.replaces)
        for output in [self.output, *beside]:
            if output.exists() and any(
                output.samefile(path) or output.resolve() in path.resolve().parents for path in inputs if path.exists()
            ):
                raise OutputError(f"{output}: is a file of the source; choose another --output")

    def planned(self, model: OpenModel) -> Result:
        """What would be made."""
        plan, names = self.prepared.plan, self.prepared.layout.names
        return Result(
            output=self.output,
            method=self.method,
            source_bytes=model.checkpoint.nbytes,
            output_bytes=plan.data_bytes,
            weights=plan.elements,
            bits_per_weight=plan.bits_per_weight,
            tensor_types={planned.target.name: planned.type for planned in plan.tensors},
            tensor_shapes={planned.target.name: planned.target.shape for planned in plan.tensors},
            tensor_files={planned.target.name: names[planned.file] for planned in plan.tensors if names},
            seconds=self.seconds,
            output_format=self.format.name,
            warnings=(*self.prepared.warnings, *self.notes),
        )

    def begin(self, stack: ExitStack) -> None:
        """Open the unfinished output and write all but its tensors; the stack closes it."""
        layout, plan = self.prepared.layout, self.prepared.plan
        self.unfinished = stack.enter_context(Unfinished(self.output, plan, layout.names, gathered=layout.gathered))
        self.resumed = self.unfinished.begin(layout.write_headers, layout.sealed)
        self.job = Job(self.unfinished, self.prepared.importance)

    def abandon(self, error: ConversionError) -> None:
        """Remove the unfinished output, unless the same command can go on with it."""
        from converter.sources.remote_file import UnreachableSource

        if not isinstance(error, OutputError | UnreachableSource) and hasattr(self, "unfinished"):
            self.unfinished.discard()

    @property
    def files(self) -> dict[Path, Path]:
        """The final path of each file of the output by its unfinished one."""
        unfinished = self.unfinished
        if not self.prepared.layout.gathered:
            return dict(zip(unfinished.files, unfinished.outputs, strict=True))
        found = (path for path in sorted(unfinished.path.rglob("*")) if path.is_file())
        return {path: self.output / path.relative_to(unfinished.path) for path in found}

    def verify(self, model: OpenModel, tell: Callable[[str], None]) -> Verification | None:
        """Verify the output while it still has its unfinished name.

        Raises:
            VerificationError: it is kept as ``<output>.rejected``.
        """
        started = time.perf_counter()
        self.prepared.layout.seal(self.unfinished.files)
        verification = None
        if self.request.verify != "none":
            path = self.unfinished.path if self.prepared.layout.gathered else self.unfinished.files[0]
            verification = self.format.verify(path, model, self.request, self.prepared, tell)
        self.seconds["verify"] = time.perf_counter() - started
        if verification is not None and not verification.passed:
            rejected = self.unfinished.reject()
            raise VerificationError(f"{verification.verdict}; the file is kept as {rejected}")
        return verification
