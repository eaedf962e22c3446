"""A model opened once for all that is made of it: its checkpoint, family and vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
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

if TYPE_CHECKING:
    from converter.architectures import Family, TargetTensor
    from converter.sources import Source
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

        family = find_family(self.checkpoint.config, self.checkpoint.tensors)(
            self.checkpoint.config, self.checkpoint.tensors
        )
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

    def _read_vocabulary(self, pre: str | None, name: str, prove: bool) -> tuple[Vocabulary, list[str]]:
        from converter.vocabs import prove as prove_vocabulary
        from converter.vocabs import read_vocabulary

        warnings: list[str] = []
        vocabulary = read_vocabulary(self.tokenizer, self.family.vocab_size, pre=pre)
        if vocabulary.dropped:
            dropped = ", ".join(vocabulary.dropped)
            warnings.append(f"added tokens without a row in the embedding are left out: {dropped}")
        warnings.extend(vocabulary.left_out)
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
        self.checkpoint.close()


def open_model(
    source: Source, tokenizer: Path | None = None, adapters: Sequence[Source] = (), *, leave_out: Sequence[str] = ()
) -> OpenModel:
    """Open a model, its adapters merged.

    Args:
        source: where its files are.
        tokenizer: directory of the tokenizer's files; None for the model's own.
        adapters: LoRA adapters, merged one after the other.
        leave_out: regular expressions of whole names of tensors to do without.

    Raises:
        CheckpointError: it is not there, damaged, or no model; or an adapter doesn't fit it.
        UsageError: adapters or tensors to leave out for a GGUF.
    """
    own = tokenizer is None
    tokenizer = tokenizer or source.path
    if (file := find_gguf(source.path, source.elsewhere)) is not None:
        if adapters:
            raise UsageError(
                f"{source.model}: is a GGUF, into which adapters are not merged; give --model the checkpoint that it "
                "was made of, or use convert adapter"
            )
        if leave_out:
            raise UsageError(f"{source.model}: is a GGUF, all of whose tensors are needed; leave --leave-out away")
        header, checkpoint = open_gguf_checkpoint(file, source.elsewhere)
        return OpenModel(file, source.name, tokenizer, checkpoint, source.origin, header)
    checkpoint = open_checkpoint(source.path, source.elsewhere, leave_out=leave_out)
    directories = tuple(adapter.path for adapter in adapters)
    if directories:
        from converter.adapters import adapt

        words = checkpoint.config.get("vocab_size")
        checkpoint = adapt(checkpoint, directories, [adapter.elsewhere for adapter in adapters])
        if own and checkpoint.config.get("vocab_size") != words:
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
