"""First stage: choices that fit each other, and a place to write to."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from converter.destinations import Destination, destination
from converter.errors import UsageError
from converter.formats import find_format, find_method
from converter.formats.layout import Format
from converter.outputs import check_output, special_file
from converter.request import Request
from converter.sources.address import HubAddress, Url, address_of
from converter.sources.selection import stem

if TYPE_CHECKING:
    from converter.catalogue import Bookkeeping
    from converter.pipeline.shared import Shared

#: Suffixes that promise a format.
SUFFIX_FORMATS = {
    ".gguf": "gguf",
    ".safetensors": "safetensors",
    ".bin": "pytorch",
    ".pt": "pytorch",
    ".pth": "pytorch",
}


@dataclass(frozen=True)
class Accepted:
    """A request that makes sense on its own.

    Attributes:
        request: what is asked for, with the very path to write as its ``output``.
        format: the container.
        method: the method's name as the format spells it.
        destination: where the output goes once it is finished.
        output: the path to write.
        repository: whole name of the Hub's repository that it is uploaded to.
        books: the catalogue that it is recorded in.
        notes: what the user should know beside what the plan tells; grows on the way.
    """

    request: Request
    format: Format
    method: str
    destination: Destination
    output: Path
    repository: str | None
    books: Bookkeeping
    notes: list[str]

    @property
    def modelfile(self) -> Path:
        """Where Ollama's Modelfile goes."""
        return self.output.with_name(f"{self.output.name.removesuffix('.gguf')}.Modelfile")

    @property
    def replaces(self) -> bool:
        """Whether an existing output is no obstacle."""
        return self.request.overwrite or self.request.force or self.request.dry_run

    def check_output(self) -> None:
        """Refuse an output that cannot or must not be written; OutputError."""
        check_output(self.output, overwrite=self.replaces, directory=self.format.directory)
        if self.request.modelfile:
            check_output(self.modelfile, overwrite=self.replaces)


def accept(request: Request, shared: Shared) -> Accepted:
    """Refuse choices and outputs before any work.

    Raises:
        UsageError: the format has no such method, or the output's name says another format.
        OutputError: the output, or a Hub repository, cannot be written to.
    """
    container = find_format(request.output_format)
    method = find_method(container, request.method)
    if request.modelfile and container.name != "gguf":
        raise UsageError(f"a Modelfile is for GGUF files, the format is {container.name}; leave out --modelfile")
    goes_to = destination_of(request, directory=container.directory)
    shared.stack.callback(goes_to.release)
    output = place(request, goes_to, container, f"{output_name(request.model)}-{method}{container.suffix}")
    notes: list[str] = []
    accepted = Accepted(
        replace(request, output=output),
        container,
        method,
        goes_to,
        output,
        repository_of(request),
        shared.catalogue(catalogue_path(request, output, away=goes_to.url is not None), notes.append),
        notes,
    )
    # What the catalogue knows may be the very output that is asked for.
    if request.dry_run or not accepted.books.knows(output):
        accepted.check_output()
    return accepted


def destination_of(request: Request, *, directory: bool) -> Destination:
    """Where the output goes, which takes it; a dry run does not ask."""
    output = str(request.output or "")
    if directory and len(output) > 1:
        output = output.rstrip("/")
    if request.dry_run and "://" in output:
        return Destination(Path(output.rstrip("/").rpartition("/")[2]))
    return destination(output, overwrite=request.overwrite or request.force)


def place(request: Request, goes_to: Destination, container: Format, default: str) -> Path:
    """The path to write: as given with the format's suffix, or a default name in the directory given or here."""
    if request.output is None:
        return Path(default)
    path = goes_to.local
    promised = SUFFIX_FORMATS.get(path.suffix.lower())
    if path.is_dir() and not container.directory:
        return path / default
    if promised not in (None, container.name):
        raise UsageError(
            f"{path}: the name says {promised} but the format is {container.name}; rename it or set --format"
        )
    suffixed = re.fullmatch(r"\.[A-Za-z]\w*", path.suffix)  # the .5-7B of Qwen2.5-7B is none
    there = path.exists() or special_file(path)
    if not (suffixed or container.directory or there) and goes_to.url is None:
        return path.with_name(f"{path.name}{container.suffix}")
    return path


def repository_of(request: Request) -> str | None:
    """The repository on the Hub that will be uploaded to, which takes it; a dry run does not ask."""
    if not request.push_to_hub or request.dry_run:
        return None
    from converter.destinations.hub import check_push

    return check_push(request.push_to_hub)


def catalogue_path(request: Request, output: Path, *, away: bool) -> Path | None:
    """The catalogue's file; None where nothing is recorded.

    Args:
        output: the path to write.
        away: whether it goes to another machine.
    """
    from converter.catalogue import default_catalogue

    if request.dry_run or (request.catalogue is None and away):
        return None
    if request.catalogue is None:
        return default_catalogue(output)
    return Path(request.catalogue) if str(request.catalogue) else None


def output_name(model: str | Path) -> str:
    """What the outputs of a model are called after."""
    address = address_of(model)
    if isinstance(address, HubAddress):
        return stem(Path(address.file or address.repo).name)
    if isinstance(address, Url):
        return stem(address.url.rstrip("/").rpartition("/")[2])
    return stem(address.resolve().name)
