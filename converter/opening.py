"""A model opened once for all that is made of it: its checkpoint, family and vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from converter.checkpoints import Checkpoint, open_checkpoint
from converter.checkpoints.gguf import open_gguf_checkpoint
from converter.checkpoints.gguf_header import GgufHeader
from converter.checkpoints.gguf_parts import find_gguf

if TYPE_CHECKING:
    from converter.architectures import Family, TargetTensor
    from converter.request import Request
    from converter.vocabs import Vocabulary


@dataclass
class OpenModel:
    """A context manager; leaving it closes the files.

    Attributes:
        path: the checkpoint's directory, or a GGUF file.
        name: what outputs are called after.
        tokenizer: directory of the tokenizer's files.
        checkpoint: the open source, adapters merged.
        header: the header of a GGUF source.
    """

    path: Path
    name: str
    tokenizer: Path
    checkpoint: Checkpoint
    header: GgufHeader | None = None
    _vocabularies: dict[tuple[str | None, str, bool], tuple[Vocabulary, list[str]]] = field(default_factory=dict)

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

        return find_family(self.checkpoint.config)(self.checkpoint.config, self.checkpoint.tensors)

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
        proof = prove_vocabulary(vocabulary, self.tokenizer, name=name)
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


def open_model(request: Request, tell: Callable[[str], None]) -> OpenModel:
    """Open the model of a request.

    Args:
        request: only ``model``, ``tokenizer``, ``adapters`` and ``stream`` count.
        tell: called with each step.

    Raises:
        CheckpointError: it is not there, damaged, or no model.
    """
    path = Path(request.model)
    tell(str(path))
    tokenizer = Path(request.tokenizer or path)
    if (file := find_gguf(path)) is not None:
        header, checkpoint = open_gguf_checkpoint(file)
        return OpenModel(file, file.name.removesuffix(".gguf"), tokenizer, checkpoint, header)
    return OpenModel(path, path.resolve().name, tokenizer, open_checkpoint(path))


def output_name(model: str | Path) -> str:
    """What the outputs of a model are called after."""
    return Path(model).resolve().name.removesuffix(".gguf")
