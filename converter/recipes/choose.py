"""From a method to the type of each tensor."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from converter.gguf.key_values import KeyValue
from converter.quants import QUANT_TYPES
from converter.recipes import rules
from converter.recipes.methods import Method
from converter.recipes.overrides import Overrides

if TYPE_CHECKING:
    from converter.architectures.facts import InQuantizer
    from converter.architectures.target import TargetTensor


@dataclass(frozen=True)
class ModelFacts:
    """What the rules ask about a model, read from its key-values.

    Attributes:
        arch: ``general.architecture``.
        blocks: number of blocks.
        heads: query heads.
        kv_heads: key-value heads.
        experts: routed experts of a block, 0 for dense models.
    """

    arch: str
    blocks: int
    heads: int
    kv_heads: int
    experts: int

    @classmethod
    def of(cls, arch: str, metadata: Iterable[KeyValue]) -> ModelFacts:
        """Read a header's key-values; per-layer lists count with their first entry, as in llama.cpp."""
        values = {pair.key: pair.value for pair in metadata}

        def number(key: str, default: int) -> int:
            value = values.get(f"{arch}.{key}", default)
            return int(value[0] if isinstance(value, list) else value)

        heads = number("attention.head_count", 0)
        return cls(
            arch,
            number("block_count", 0),
            heads,
            number("attention.head_count_kv", heads),
            number("expert_count", 0),
        )

    @property
    def sharing(self) -> int:
        return self.heads // self.kv_heads if self.kv_heads else 0

    @property
    def in_quantizer(self) -> InQuantizer:
        """What llama.cpp's quantizer makes of the architecture by its name."""
        from converter.architectures.facts import in_quantizer

        return in_quantizer(self.arch)

    @property
    def seventy_billion(self) -> bool:
        facts = self.in_quantizer
        return (
            facts.large > 0 and self.blocks == facts.large and (not facts.large_shares or self.heads != self.kv_heads)
        )


def choose_types(
    method: Method,
    tensors: Sequence[TargetTensor],
    facts: ModelFacts,
    overrides: Overrides | None = None,
    *,
    importance: bool = False,
    stored: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """The type of each tensor, in order.

    Args:
        method: what the user asked for.
        tensors: all tensors of the model.
        facts: of the model.
        overrides: what the user decides instead.
        importance: whether an importance matrix is given.
        stored: types that tensors have in a GGUF source; those that are not quantized keep them.

    Returns:
        Names of ``QUANT_TYPES``, one for each tensor.
    """
    return _chosen(method, tensors, facts, overrides, importance=importance, stored=stored)[0]


def fallbacks(
    method: Method,
    tensors: Sequence[TargetTensor],
    facts: ModelFacts,
    overrides: Overrides | None = None,
    *,
    importance: bool = False,
    stored: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """By tensor, the type that it would have if its rows were a multiple of that type's block; of those that are not.

    The arguments are those of :func:`choose_types`.
    """
    return _chosen(method, tensors, facts, overrides, importance=importance, stored=stored)[1]


def _chosen(
    method: Method,
    tensors: Sequence[TargetTensor],
    facts: ModelFacts,
    overrides: Overrides | None,
    *,
    importance: bool,
    stored: Mapping[str, str],
) -> tuple[list[str], dict[str, str]]:
    chooser = _Chooser(method, tensors, facts, overrides or Overrides(), importance, stored)
    chosen = {tensor.name: chooser.type_of(tensor) for tensor in sorted(tensors, key=_block_order)}
    return [chosen[tensor.name] for tensor in tensors], chooser.fallen


def _block_order(tensor: TargetTensor) -> tuple[int, bytes]:
    """llama.cpp's order: what belongs to no block first, then block by block, by name."""
    match = re.match(r"blk\.(\d+)\.", tensor.name)
    return (int(match[1]) if match else -1, tensor.name.encode())


class _Chooser:
    """The rules at work; counts the tensors of each category it has seen."""

    def __init__(
        self,
        method: Method,
        tensors: Sequence[TargetTensor],
        facts: ModelFacts,
        overrides: Overrides,
        importance: bool,
        stored: Mapping[str, str],
    ) -> None:
        self.method = method
        self.facts = facts
        self.overrides = overrides
        self.importance = importance
        self.stored = stored
        self.tied = all(tensor.name != "output.weight" for tensor in tensors)
        self.values = sum(category(tensor.name) == "attn_v" for tensor in tensors)
        self.seen: Counter[str] = Counter()
        self.fallen: dict[str, str] = {}

    def type_of(self, tensor: TargetTensor) -> str:
        overrides, kind = self.overrides, category(tensor.name)
        if not quantizable(tensor) or (kind == "output" and overrides.leave_output):
            return self.stored.get(tensor.name, "f32")
        named = next((kind for pattern, kind in overrides.tensor_types if re.search(pattern, tensor.name)), None)
        if kind == "token_embd" and overrides.embedding_type and not (tensor.name != rules.EMBEDDINGS[0] and named):
            return overrides.embedding_type
        if kind == "output" and overrides.output_type:
            return overrides.output_type
        if QUANT_TYPES[self.method.type].block_size == 1:
            return self.method.type
        if named is None:
            named = self.method.type if overrides.pure else self.by_rules(tensor, kind)
        kind = fitting(named, tensor.row_length)
        if kind != named:
            self.fallen[tensor.name] = named
        return kind

    def by_rules(self, tensor: TargetTensor, kind: str) -> str:
        """The type by the method's mix."""
        if kind == "output" or (self.tied and kind == "token_embd"):
            return self.output_type(tensor)
        if self.method.name == "mxfp4_moe":
            return "mxfp4" if len(tensor.shape) == 3 and tensor.shape[0] > 1 else "q8_0"
        at = self.situation(tensor, kind)
        self.seen[kind] += 1
        listed = rules.RULES.get(self.method.name, {}).get(kind, ())
        chosen = next((name for name, condition in listed if condition(at)), self.method.type)
        if self.method.name in rules.WITHOUT_COMMON_RULES:
            return chosen
        if kind in ("attn_v", "attn_k") and self.facts.experts == 8:
            return "q8_0"
        if kind == "attn_v" and self.facts.seventy_billion and chosen in ("q3_k", "q4_k"):
            return "q5_k"
        return chosen

    def output_type(self, tensor: TargetTensor) -> str:
        """The matrix that makes the logits: 6 bits at least, in most methods."""
        if self.overrides.output_type:
            return self.overrides.output_type
        if self.method.name in ("mxfp4_moe", "q8_0") or self.facts.in_quantizer.falcon:
            return "q8_0"
        listed = rules.RULES.get(self.method.name, {}).get("output")
        chosen = listed[0][0] if listed else "q6_k"
        if tensor.row_length % QUANT_TYPES[self.method.type].block_size:
            self.fallen[tensor.name] = chosen
            return "q8_0"
        return chosen

    def situation(self, tensor: TargetTensor, kind: str) -> rules.Situation:
        order = self.seen[kind]
        layer = order
        if self.facts.experts > 1 and kind.startswith("ffn_"):
            layer = _block_order(tensor)[0]
        return rules.Situation(
            order=order,
            layer=layer,
            layers=self.values if kind == "attn_v" else self.facts.blocks,
            sharing=self.facts.sharing,
            experts=self.facts.experts,
            falcon=self.facts.in_quantizer.falcon,
            importance=self.importance,
        )


def category(name: str) -> str:
    """The category of a tensor by its name; empty for those no rule speaks of."""
    if name == "output.weight":
        return "output"
    if name in rules.EMBEDDINGS:
        return "token_embd"
    return next((kind for part, kind in rules.CATEGORIES if part in name), "")


def quantizable(tensor: TargetTensor) -> bool:
    """Whether a tensor takes the method's type at all; the others stay float32."""
    name = tensor.name
    if tensor.rows <= 1 or not name.endswith("weight") or name in rules.NEVER_QUANTIZED_NAMES:
        return False
    return not any(part in name for part in rules.NEVER_QUANTIZED)


def fitting(chosen: str, row_length: int) -> str:
    """The chosen type, or the one that takes over for rows that its blocks do not divide, at last f16."""
    if row_length % QUANT_TYPES[chosen].block_size:
        chosen = rules.NARROWER.get(chosen, chosen)
    return chosen if row_length % QUANT_TYPES[chosen].block_size == 0 else "f16"
