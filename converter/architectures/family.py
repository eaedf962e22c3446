"""What a model family answers: its key-values, its tensors, and which source tensors it leaves out.

A family is one module of this package that defines a subclass of :class:`Family`; defining it registers it. Nothing
else has to know it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.target import Operation, Piece, RowMap, TargetTensor
from converter.checkpoints.tensor import SourceTensor
from converter.errors import CheckpointError
from converter.gguf.key_values import KeyValue

#: Buffers that old checkpoints carry and every runtime computes itself.
COMPUTED_BUFFERS = (r".*\.rotary_emb\.inv_freq", r".*\.attn\.masked_bias", r".*\.attention\.(masked_)?bias")


class Family(ABC):
    """One model family.

    Attributes:
        classes: names in config.json's ``architectures`` that this family converts.
        arch: llama.cpp's name of the architecture, the prefix of its keys.
        defaults: transformers' defaults of the fields that the family reads, for configs that leave them out.
        aliases: other spellings of fields in config.json, each with the one that the family reads.
        skipped: regular expressions of source tensors that are left out on purpose.
        within: where its fields stand in config.json, for messages: ``""``, or ``"text_config."``.
        directory: where the checkpoint lies, for what stands beside its weights; None where there is nothing.
    """

    classes: ClassVar[tuple[str, ...]] = ()
    arch: str
    defaults: ClassVar[Mapping[str, Any]] = {}
    aliases: ClassVar[Mapping[str, str]] = {}
    skipped: ClassVar[tuple[str, ...]] = COMPUTED_BUFFERS
    within: str = ""
    directory: Path | None = None

    def __init__(self, config: Mapping[str, Any], sources: Mapping[str, SourceTensor]) -> None:
        other = {self.aliases[name]: value for name, value in config.items() if name in self.aliases}
        given = {name: value for name, value in other.items() if value is not None}
        self.config = Hyperparameters({**config, **given}, self.defaults, self.within)
        self.sources = sources

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in cls.__dict__.get("classes", ()):
            if name in FAMILIES:
                raise TypeError(f"{name} is claimed by {FAMILIES[name].__name__} and {cls.__name__}")
            FAMILIES[name] = cls

    @abstractmethod
    def key_values(self) -> list[KeyValue]:
        """The family's own keys (``{arch}.*``); ArchitectureError for a value the runtime cannot represent."""

    @abstractmethod
    def tensors(self) -> Iterator[TargetTensor]:
        """Every tensor of the output, in the order of the file."""

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding, to which the vocabulary is padded."""
        return self.config.integer("vocab_size")

    def exact_lengths(self) -> Iterator[tuple[int, str]]:
        """Lengths in tokens up to which llama.cpp computes what the model does, each with the cause of its end."""
        yield from ()

    def warnings(self) -> list[str]:
        """What a user should know about this model in llama.cpp though it converts; one sentence each."""
        length, cause = min(self.exact_lengths(), default=(0, ""))
        return [f"{cause}: the file is exact up to a context of {length} tokens"] if cause else []

    def leaves_out(self, source: str) -> bool:
        """Whether a source tensor is left out on purpose."""
        return any(re.fullmatch(pattern, source) for pattern in self.skipped)

    # What tensors() is written with.

    def tensor(
        self,
        target: str,
        source: str,
        shape: tuple[int, ...],
        *,
        rows: RowMap | None = None,
        transposed: bool = False,
        operation: Operation | None = None,
    ) -> TargetTensor:
        """One target made of one source tensor, after checking that the source has the shape the config implies.

        Raises:
            CheckpointError: the source is missing or has another shape.
        """
        found = self.source(source, shape[::-1] if transposed else shape if rows is None else None)
        if rows is not None and (found.row_length != shape[-1] or rows.rows != TargetTensor(target, shape).rows):
            raise CheckpointError(
                f"{source}: shape {list(found.shape)} does not hold the rows of {target} {list(shape)}"
            )
        return TargetTensor(target, shape, (Piece(source, rows, transposed, operation),))

    def linear(
        self, target: str, source: str, shape: tuple[int, int], *, bias: bool = False, rows: RowMap | None = None
    ) -> Iterator[TargetTensor]:
        """A projection's weight of shape (out, in) and, with ``bias``, its bias; ``rows`` reorders the outputs."""
        if rows is not None:
            self.source(f"{source}.weight", shape)
        yield self.tensor(f"{target}.weight", f"{source}.weight", shape, rows=rows)
        if bias:
            self.source(f"{source}.bias", shape[:1])
            yield TargetTensor(f"{target}.bias", shape[:1], (Piece(f"{source}.bias", rows),))

    def source(self, name: str, shape: tuple[int, ...] | None) -> SourceTensor:
        """The source tensor of that name, checked against the expected shape."""
        found = self.sources.get(name)
        if found is None:
            raise CheckpointError(f"missing tensor {name}; the checkpoint is incomplete or not what config.json says")
        if shape is not None and found.shape != shape:
            raise CheckpointError(f"{name}: shape {list(found.shape)} found, {list(shape)} expected from config.json")
        return found


#: Family of each class name in ``architectures``; filled as the modules of this package are imported.
FAMILIES: dict[str, type[Family]] = {}

#: Why llama.cpp computes something else than the model, for class names that it loads all the same; filled likewise.
COMPUTED_OTHERWISE: dict[str, str] = {}


def check_all_used(family: Family, targets: Sequence[TargetTensor]) -> None:
    """Refuse a checkpoint with a tensor that nothing uses: half the model would be lost in silence.

    Raises:
        CheckpointError: naming the first such tensor and how many there are.
    """
    used = {piece.source for target in targets for piece in target.pieces}
    unexpected = sorted(name for name in family.sources.keys() - used if not family.leaves_out(name))
    if unexpected:
        others = f" (and {len(unexpected) - 1} more)" if len(unexpected) > 1 else ""
        raise CheckpointError(
            f"unexpected tensor {unexpected[0]}{others}; {type(family).__name__} has no place for it: "
            "is config.json the one of this checkpoint?"
        )
