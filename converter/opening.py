"""A model opened once for all that is made of it: its checkpoint, family and vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from converter.checkpoints import Checkpoint, open_checkpoint
from converter.checkpoints.gguf import open_gguf_checkpoint
from converter.errors import UsageError
from converter.gguf.parts import find_gguf
from converter.gguf.reader import GgufHeader
from converter.result import Progress

if TYPE_CHECKING:
    from converter.architectures import Family, TargetTensor
    from converter.request import Request
    from converter.sources import Source
    from converter.verification.source_results import SourceResults
    from converter.vocabs import TokenizerProof, Vocabulary

TOKENIZER = "tokenizer.json"


@dataclass
class OpenModel:
    """A context manager; leaving it closes the files.

    Attributes:
        path: the checkpoint's directory, or a GGUF file.
        name: what outputs are called after.
        tokenizer: directory of the tokenizer's files.
        checkpoint: the open source, adapters merged.
        origin: what it is, wherever it lies.
        header: the header of a GGUF source.
        adapters: directories of the adapters that are merged.
    """

    path: Path
    name: str
    tokenizer: Path
    checkpoint: Checkpoint
    origin: str
    header: GgufHeader | None = None
    adapters: tuple[Path, ...] = ()
    _vocabularies: dict[tuple[str | None, str, bool], tuple[Vocabulary, list[str]]] = field(default_factory=dict)
    _proofs: dict[tuple[str | None, str], TokenizerProof] = field(default_factory=dict)
    _results: dict[tuple[str | None, bool], SourceResults] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def identity(self) -> list[tuple[str, int, int]]:
        """Path, size and modification time (ns) of each of the source's files."""
        return [(str(file.path), file.size, file.mtime_ns) for file in self.checkpoint.files]

    @cached_property
    def family(self) -> Family:
        """The model's family, every tensor accounted for.

        Raises:
            ArchitectureError: none knows it, or it cannot be represented in a GGUF.
        """
        from converter.architectures import find_family

        family = find_family(self.checkpoint.config)(self.checkpoint.config, self.checkpoint.tensors)
        if self.header is None:
            family.directory = self.path
        return family

    @cached_property
    def targets(self) -> list[TargetTensor]:
        """The tensors that a GGUF holds of it.

        Raises:
            ArchitectureError: a tensor of the checkpoint is not used.
        """
        from converter.architectures import check_all_used

        targets = list(self.family.tensors())
        check_all_used(self.family, targets)
        return targets

    def vocabulary(self, pre: str | None, name: str, *, prove: bool) -> tuple[Vocabulary, list[str]]:
        """The vocabulary, proved if asked for, and what the user should know about it.

        Args:
            pre: the pre-tokenizer that the user insists on.
            name: ``general.name``; llama.cpp tokenizes a few models differently by their name alone.
            prove: compare with the source's tokenizer.
        """
        key = pre, name, prove
        if key not in self._vocabularies:
            self._vocabularies[key] = self._read_vocabulary(*key)
        return self._vocabularies[key]

    def proof(self, pre: str | None, name: str) -> TokenizerProof | None:
        """The proof of such a vocabulary, where there was one."""
        return self._proofs.get((pre, name))

    def results(self, load_dtype: str | None, *, trust_remote_code: bool) -> SourceResults:
        """What the source computes, its weights rounded to a type first: run once for all outputs, when asked for."""
        from converter.verification.source_results import SourceResults

        key = load_dtype, trust_remote_code
        if key not in self._results:
            self._results[key] = self._stack.enter_context(
                SourceResults(
                    self.path,
                    self.tokenizer,
                    adapters=self.adapters,
                    load_dtype=load_dtype,
                    trust_remote_code=trust_remote_code,
                )
            )
        return self._results[key]

    def _read_vocabulary(self, pre: str | None, name: str, prove: bool) -> tuple[Vocabulary, list[str]]:
        from converter.vocabs import prove as prove_vocabulary
        from converter.vocabs import read_vocabulary

        warnings: list[str] = []
        vocabulary = read_vocabulary(self.tokenizer, self.family.vocab_size, pre=pre)
        if vocabulary.dropped:
            dropped = ", ".join(vocabulary.dropped)
            warnings.append(f"added tokens without a row in the embedding are left out: {dropped}")
        if not prove:
            return vocabulary, warnings
        proof = self._proofs[pre, name] = prove_vocabulary(vocabulary, self.tokenizer, name=name)
        warnings.extend(proof.limits)
        if not proof.agreeing:
            warnings.append(f"--pre {pre} overrides the tokenizer's proof: {proof.difference}")
        return proof.vocabulary, warnings

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self.checkpoint.close()


@dataclass(frozen=True)
class Located:
    """Where the files of a request lie, once they are on this machine or known to be readable from elsewhere.

    Attributes:
        source: the model.
        tokenizer: directory of the tokenizer's files; None for the model's own.
        adapters: the adapters.
    """

    source: Source
    tokenizer: Path | None
    adapters: tuple[Source, ...]


def locate(request: Request, stack: ExitStack, tell: Callable[[Progress], None]) -> Located:
    """Bring the files of a request here, as far as they have to be.

    Args:
        request: only ``model``, ``tokenizer``, ``adapters`` and ``stream`` count.
        stack: removes at its end what was brought here for now.
        tell: told of downloads.

    Raises:
        CheckpointError: something cannot be found, read or stored.
        UsageError: an address that is none.
    """
    from converter.sources import open_source

    def find(model: str | Path, *, stream: bool = False, weights: bool = True) -> Source:
        source = open_source(
            model, stream=stream, weights=weights,
            progress=lambda item, done, total: tell(Progress("fetch", done, total, item)),
        )  # fmt: skip
        return stack.enter_context(source)

    return Located(
        find(request.model, stream=request.stream),
        None if request.tokenizer is None else find(request.tokenizer, weights=False).path,
        tuple(find(adapter) for adapter in request.adapters),
    )


def open_model(located: Located) -> OpenModel:
    """Open a model, its adapters merged.

    Raises:
        CheckpointError: it is not there, damaged, or no model; or an adapter doesn't fit it.
        UsageError: adapters for a GGUF.
    """
    source, tokenizer = located.source, located.tokenizer or located.source.path
    if (file := find_gguf(source.path, source.elsewhere)) is not None:
        if located.adapters:
            raise UsageError(
                f"{source.model}: is a GGUF, into which adapters are not merged; give --model the checkpoint that it "
                "was made of, or use convert adapter"
            )
        header, checkpoint = open_gguf_checkpoint(file, source.elsewhere)
        return OpenModel(file, source.name, tokenizer, checkpoint, source.origin, header)
    checkpoint = open_checkpoint(source.path, source.elsewhere)
    directories = tuple(adapter.path for adapter in located.adapters)
    if directories:
        from converter.adapters import adapt

        words = checkpoint.config.get("vocab_size")
        checkpoint = adapt(checkpoint, directories, [adapter.elsewhere for adapter in located.adapters])
        if located.tokenizer is None and checkpoint.config.get("vocab_size") != words:
            # PEFT saves the tokenizer that a larger vocabulary belongs to beside the adapter.
            tokenizer = next((path for path in reversed(directories) if (path / TOKENIZER).is_file()), tokenizer)
    return OpenModel(source.path, source.name, tokenizer, checkpoint, source.origin, adapters=directories)


def output_name(model: str | Path) -> str:
    """What the outputs of a model are called after."""
    from converter.sources.address import HubAddress, Url, address_of
    from converter.sources.selection import stem

    address = address_of(model)
    if isinstance(address, HubAddress):
        return stem(Path(address.file or address.repo).name)
    if isinstance(address, Url):
        return stem(address.url.rstrip("/").rpartition("/")[2])
    return stem(address.resolve().name)
