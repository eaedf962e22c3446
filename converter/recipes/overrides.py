"""What a user decides instead of the method: types of single tensors, key-values, blocks to leave out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from converter.errors import UsageError
from converter.option import Kind, option

if TYPE_CHECKING:
    from converter.architectures.target import TargetTensor
    from converter.gguf.key_values import KeyValue

_BLOCK = re.compile(r"blk\.(\d+)\.")

#: Types of ``override_kv``, as llama-quantize names them: GGUF's type, and how the text is read.
_KINDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "int": ("UINT32", int),
    "float": ("FLOAT32", float),
    "bool": ("BOOL", lambda text: {"true": True, "false": False}[text]),
    "str": ("STRING", str),
}
_GROUP = "Quantization"


@dataclass(frozen=True)
class Overrides:
    """What a user decides instead of the method. Values are checked when it is made.

    Attributes:
        tensor_types: (regular expression searched in a tensor's name, type); the first match counts.
        output_type: type of the output matrix.
        embedding_type: type of the token embeddings.
        leave_output: keep the output matrix in float32.
        pure: one type for every matrix.
        include_weights: use importance only for tensors whose name holds one of these; empty for all.
        exclude_weights: use none for tensors whose name holds one of these.
        override_kv: ``KEY=TYPE:VALUE``, types int, float, bool, str.
        prune_layers: numbers of blocks to leave out.

    Raises:
        UsageError: a type, an expression or a value that is none.
    """

    tensor_types: tuple[tuple[str, str], ...] = field(
        default=(),
        metadata=option(
            "Type for tensors whose name matches; repeatable.",
            "--tensor-type",
            kind=Kind.ASSIGNMENTS,
            metavar="REGEX=TYPE",
            key="recipe.tensor_types",
            group=_GROUP,
            adds="before",
        ),
    )
    output_type: str | None = field(
        default=None,
        metadata=option(
            "Type for the output matrix.", "--output-type", metavar="TYPE", key="recipe.output_type", group=_GROUP
        ),
    )
    embedding_type: str | None = field(
        default=None,
        metadata=option(
            "Type for the token embeddings.",
            "--embedding-type",
            metavar="TYPE",
            key="recipe.embedding_type",
            group=_GROUP,
        ),
    )
    leave_output: bool = field(
        default=False,
        metadata=option(
            "Keep the output matrix in float32.",
            "--leave-output",
            kind=Kind.FLAG,
            key="recipe.leave_output",
            group=_GROUP,
        ),
    )
    pure: bool = field(
        default=False,
        metadata=option(
            "Use one type for every matrix, including the output matrix.",
            "--pure",
            kind=Kind.FLAG,
            key="recipe.pure",
            group=_GROUP,
        ),
    )
    include_weights: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "Use the importance matrix only for tensors with this in their name.",
            "--include-weights",
            kind=Kind.TEXTS,
            metavar="PART",
            key="recipe.include_weights",
            group=_GROUP,
        ),
    )
    exclude_weights: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "Do not use the importance matrix for tensors with this in their name.",
            "--exclude-weights",
            kind=Kind.TEXTS,
            metavar="PART",
            key="recipe.exclude_weights",
            group=_GROUP,
        ),
    )
    override_kv: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "Set a key-value in the GGUF's header; repeatable.",
            "--override-kv",
            kind=Kind.TEXTS,
            metavar="KEY=TYPE:VALUE",
            key="recipe.override_kv",
            group=_GROUP,
            adds="after",
        ),
    )
    prune_layers: tuple[int, ...] = field(
        default=(),
        metadata=option(
            "Leave out these blocks.",
            "--prune-layers",
            kind=Kind.NUMBERS,
            metavar="N,N,…",
            key="recipe.prune_layers",
            group=_GROUP,
        ),
    )

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "tensor_types", tuple((_pattern(pattern), known_type(name)) for pattern, name in self.tensor_types)
        )
        for name in ("output_type", "embedding_type"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, known_type(getattr(self, name)))
        for text in self.override_kv:
            parse_key_value(text)
        if self.include_weights and self.exclude_weights:
            raise UsageError("weights are either included or excluded, not both; give one of the two")

    def weighs(self, name: str) -> bool:
        """Whether importance is used for a tensor."""
        if self.include_weights:
            return any(part in name for part in self.include_weights)
        return not any(part in name for part in self.exclude_weights)

    @property
    def changed_keys(self) -> frozenset[str]:
        """Keys that the user decides otherwise, or adds."""
        return frozenset(parse_key_value(text).key for text in self.override_kv)

    def apply_to(self, metadata: Sequence[KeyValue]) -> list[KeyValue]:
        """Key-values with the overrides in their places, new ones at the end."""
        new = {pair.key: pair for pair in map(parse_key_value, self.override_kv)}
        kept = [new.pop(pair.key, pair) for pair in metadata]
        return [*kept, *new.values()]


def known_type(name: str) -> str:
    """The tensor type of that name, in any case.

    Raises:
        UsageError: no such type.
    """
    from converter.quants import QUANT_TYPES

    lower = name.lower()
    if lower not in QUANT_TYPES:
        raise UsageError(f"tensor type {name!r} does not exist; types are {', '.join(QUANT_TYPES)}")
    return lower


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise UsageError(f"tensor type: {text!r} is no regular expression: {error}") from None
    return text


def parse_key_value(text: str) -> KeyValue:
    """``KEY=TYPE:VALUE`` as a key-value.

    Raises:
        UsageError: the form, the type or the value is wrong.
    """
    from gguf import GGUFValueType

    from converter.gguf.key_values import KeyValue

    key, equals, typed = text.partition("=")
    kind, colon, value = typed.partition(":")
    if not (key and equals and colon) or kind not in _KINDS:
        raise UsageError(f"override {text!r} is not KEY=TYPE:VALUE with a type of {', '.join(_KINDS)}")
    gguf_type, read = _KINDS[kind]
    try:
        # llama-quantize stores every integer as unsigned, without its sign.
        parsed = abs(read(value)) if kind == "int" else read(value)
    except (ValueError, KeyError):
        raise UsageError(f"override {text!r}: {value!r} is no {kind}") from None
    return KeyValue(key, parsed, GGUFValueType[gguf_type])


def prune(
    targets: Sequence[TargetTensor], metadata: Sequence[KeyValue], arch: str, layers: Sequence[int]
) -> tuple[list[TargetTensor], list[KeyValue], dict[str, str]]:
    """Leave blocks out and number the rest anew.

    Args:
        targets: all tensors.
        metadata: the family's key-values; the block count and lists with an entry for each block shrink.
        arch: prefix of those keys.
        layers: numbers of the blocks to leave out.

    Returns:
        The tensors that stay, the key-values, and the original name of each renamed tensor.

    Raises:
        UsageError: a block that the model has not, or none left.
    """
    blocks = next((pair.value for pair in metadata if pair.key == f"{arch}.block_count"), 0)
    outside = [layer for layer in layers if not 0 <= layer < blocks]
    if outside or len(set(layers)) >= blocks:
        raise UsageError(
            f"layers to prune {sorted(layers)}: the model has blocks 0 to {blocks - 1}; leave at least one"
        )
    kept = [layer for layer in range(blocks) if layer not in layers]
    number = {old: new for new, old in enumerate(kept)}
    staying, originals = [], {}
    for target in targets:
        match = _BLOCK.match(target.name)
        if match is None:
            staying.append(target)
        elif int(match[1]) in number:
            name = f"blk.{number[int(match[1])]}.{target.name[match.end() :]}"
            originals[name] = target.name
            staying.append(replace(target, name=name))
    return staying, [_pruned(pair, arch, kept, blocks) for pair in metadata], originals


def _pruned(pair: KeyValue, arch: str, kept: Sequence[int], blocks: int) -> KeyValue:
    if pair.key == f"{arch}.block_count":
        return replace(pair, value=len(kept))
    if pair.key.startswith(f"{arch}.") and isinstance(pair.value, list) and len(pair.value) == blocks:
        return replace(pair, value=[pair.value[layer] for layer in kept])
    return pair
