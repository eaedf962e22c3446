"""What a model family answers: its key-values, its tensors, and which source tensors it leaves out.

A family is a module below ``families/`` that defines a subclass of :class:`Family`; defining it registers it. Nothing
else has to know it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from converter.architectures.facts import InTransformers
from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.layer import Layer, Names
from converter.architectures.target import Operation, Piece, RowMap, TargetTensor
from converter.checkpoints.foreign import explained_names
from converter.checkpoints.tensor import SourceTensor
from converter.errors import CheckpointError
from converter.gguf.key_values import KeyValue

#: The family's own names.
AS_SPELLED: Mapping[str, str] = MappingProxyType({})

#: Buffers that old checkpoints carry and every runtime computes itself.
COMPUTED_BUFFERS = (r".*\.rotary_emb\.inv_freq", r".*\.attn\.masked_bias", r".*\.attention\.(masked_)?bias")


class Family(ABC):
    """One model family.

    Attributes:
        classes: names in config.json's ``architectures`` that this family converts.
        arch: llama.cpp's name of the architecture, the prefix of its keys.
        defaults: transformers' defaults of the fields that the family reads, for configs that leave them out.
        aliases: other spellings of fields in config.json, each with the one that the family reads.
        names: names of the tensors, as :data:`Names` says; those of the whole model, the layers (``blk``) among them,
            are complete.
        body: what these begin with, but for the output matrix, and do without in a checkpoint that was saved as a body
            without a head.
        skipped: regular expressions of source tensors that are left out on purpose.
        predicts_ahead: layers beyond the model's last are left out: they predict several tokens ahead, and
            transformers does not run them either.
        in_transformers: what transformers' code does with its weights, by ``model_type``, where that is not the usual.
        directory: where the checkpoint lies, for what stands beside its weights; None where there is nothing.
    """

    classes: ClassVar[tuple[str, ...]] = ()
    arch: str
    defaults: ClassVar[Mapping[str, Any]] = {}
    aliases: ClassVar[Mapping[str, str]] = {}
    names: ClassVar[Names] = {}
    body: ClassVar[str] = ""
    skipped: ClassVar[tuple[str, ...]] = COMPUTED_BUFFERS
    predicts_ahead: ClassVar[bool] = False
    in_transformers: ClassVar[Mapping[str, InTransformers]] = {}
    directory: Path | None = None

    def __init__(
        self,
        config: Mapping[str, Any],
        sources: Mapping[str, SourceTensor],
        *,
        renamed: Mapping[str, str] = AS_SPELLED,
        within: str = "",
    ) -> None:
        """A checkpoint's family.

        Args:
            config: the parsed ``config.json``.
            sources: the checkpoint's tensors by name.
            renamed: beginnings of the whole model's names, each with what this checkpoint has in its place.
            within: where the fields stand in the file, for messages: ``""`` or ``"text_config."``.
        """
        other = {self.aliases[name]: value for name, value in config.items() if name in self.aliases}
        given = {name: value for name, value in other.items() if value is not None}
        self.config = Hyperparameters({**config, **given}, self.defaults, within)
        self.sources = sources
        self.renamed = renamed
        if not renamed and self.body and self.holds(self.source_name("token_embd").removeprefix(self.body)):
            self.renamed = {self.body: ""}

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
        if self.predicts_ahead:
            number = self.layer_number(source)
            if number is not None and number >= self.config.integer("num_hidden_layers"):
                return True
        return any(re.fullmatch(pattern, source) for pattern in self.skipped)

    # What tensors() is written with.

    @property
    def bare(self) -> bool:
        """Whether the checkpoint was saved as a body without a head."""
        return self.renamed.get(self.body) == ""

    def source_name(self, part: str, layer: Layer | None = None) -> str:
        """The checkpoint's name of a tensor, without ``.weight``.

        Args:
            part: a key of ``names``.
            layer: the layer it is in; None for a tensor of the whole model.
        """
        spelled = self.names[part]
        names = [self.complete(name, layer) for name in ((spelled,) if isinstance(spelled, str) else spelled)]
        return next(filter(self.holds, names), None) or max(reversed(names), key=self.nearness)

    def complete(self, name: str, layer: Layer | None = None) -> str:
        """A name with its layer's before it, or as this checkpoint has it."""
        if layer is not None:
            return f"{layer.source}.{name}"
        old = next((old for old in self.renamed if name.startswith(old)), "")
        return f"{self.renamed[old]}{name.removeprefix(old)}" if old else name

    def holds(self, name: str) -> bool:
        """Whether there is a module or a tensor of that name; of experts, the first counts."""
        first = name.replace("*", "0")
        return f"{first}.weight" in self.sources or first in self.sources

    def nearness(self, name: str) -> int:
        """How many of the modules that a missing tensor would be in are there."""
        parts = name.split(".")
        within = [f"{'.'.join(parts[:end])}." for end in range(1, len(parts))]
        return sum(any(source.startswith(module) for source in self.sources) for module in within)

    def layer_number(self, source: str) -> int | None:
        """The number of the layer that a source tensor is in; None for one of the whole model."""
        found = re.match(rf"{re.escape(self.source_name('blk'))}\.(\d+)\.", source) if "blk" in self.names else None
        return int(found[1]) if found else None

    def projection(
        self, layer: Layer, part: str, shape: tuple[int, int], *, bias: bool = False, rows: RowMap | None = None
    ) -> Iterator[TargetTensor]:
        """A layer's projection under its name in ``names``; arguments as of :meth:`linear`."""
        return self.linear(f"{layer.target}.{part}", self.source_name(part, layer), shape, bias=bias, rows=rows)

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
            cause = explained_names(self.sources) or "the checkpoint is incomplete or not what config.json says"
            raise CheckpointError(f"missing tensor {name}; {cause}")
        if shape is not None and found.shape != shape:
            raise CheckpointError(f"{name}: shape {list(found.shape)} found, {list(shape)} expected from config.json")
        return found


#: Family of each class name in ``architectures``; filled as the modules of this package are imported.
FAMILIES: dict[str, type[Family]] = {}

#: Why llama.cpp computes something else than the model, for class names that it loads all the same; filled likewise.
COMPUTED_OTHERWISE: dict[str, str] = {}


def model_types() -> dict[str, InTransformers]:
    """What families tell of transformers' code, by ``model_type``."""
    return {kind: facts for family in FAMILIES.values() for kind, facts in family.in_transformers.items()}


def in_transformers(model_type: object) -> InTransformers:
    """What transformers' code of a ``model_type`` does with weights; the usual where no family tells otherwise."""
    return model_types().get(str(model_type), InTransformers())


def check_all_used(family: Family, targets: Sequence[TargetTensor]) -> None:
    """Refuse a checkpoint with a tensor that nothing uses: half the model would be lost in silence.

    Raises:
        CheckpointError: naming the first such tensor and how many there are.
    """
    used = {piece.source for target in targets for piece in target.pieces}
    unexpected = sorted(name for name in family.sources.keys() - used if not family.leaves_out(name))
    if unexpected:
        others = f" (and {len(unexpected) - 1} more)" if len(unexpected) > 1 else ""
        cause = explained_names(unexpected) or "is config.json the one of this checkpoint?"
        cause += "" if cause.endswith("?") else ";"
        raise CheckpointError(
            f"unexpected tensor {unexpected[0]}{others}; {type(family).__name__} has no place for it: {cause} "
            "--leave-out REGEX goes on without those that you name"
        )
