"""LongRoPE: frequency factors for texts within the original context, others for longer ones (arXiv:2402.13753)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.parts.rope import Rope
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, float32, uint32

#: Its names in config.json; ``su`` and ``yarn`` are those of early Phi-3 files.
NAMES = ("longrope", "su", "yarn")


@dataclass(frozen=True)
class LongRope:
    """The factors, and what they come with.

    Attributes:
        short, long: what each rotated pair's frequency is divided by, within the original context and beyond it.
        original_context_length: tokens.
        attention_factor: what cos and sin are multiplied by.
    """

    short: tuple[float, ...]
    long: tuple[float, ...]
    original_context_length: int
    attention_factor: float

    @classmethod
    def of(cls, config: Hyperparameters, rotary_dim: int) -> LongRope | None:
        """The config's LongRoPE, or None where it has no scaling (transformers, ``_compute_longrope_parameters``).

        Args:
            config: with ``original_max_position_embeddings`` beside the rope's parameters or among them.
            rotary_dim: elements of a head that are rotated.

        Raises:
            ArchitectureError: another scaling, or a field that is not what LongRoPE needs.
        """
        parameters = rope_parameters(config)
        name = parameters.get("rope_type") or parameters.get("type") or "default"
        if name == "default":
            return None
        if name not in NAMES:
            raise ArchitectureError(f"config.json: rope scaling is {name!r}, 'longrope' or none expected")
        short, long = (_factors(parameters, f"{kind}_factor", rotary_dim // 2) for kind in ("short", "long"))
        context = config.integer("max_position_embeddings")
        original = Hyperparameters(
            {**parameters, **config.config}, {"original_max_position_embeddings": context}
        ).integer("original_max_position_embeddings", minimum=2)
        plain = Rope(0.0, "default", context, parameters)
        factor = plain.number("factor", context / original)
        usual = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
        return cls(short, long, original, plain.number("attention_factor", usual))

    def key_values(self, arch: str) -> list[KeyValue]:
        prefix = f"{arch}.rope.scaling"
        return [
            uint32(f"{prefix}.original_context_length", self.original_context_length),
            float32(f"{prefix}.attn_factor", self.attention_factor),
        ]

    def tensors(self) -> Iterator[TargetTensor]:
        for name, factors in (("long", self.long), ("short", self.short)):
            yield TargetTensor(f"rope_factors_{name}.weight", (len(factors),), values=factors)


def rope_parameters(config: Hyperparameters) -> Mapping[str, Any]:
    """``rope_parameters``, or ``rope_scaling`` as older files call them."""
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(parameters, dict):
        raise ArchitectureError(f"config.json: rope parameters are {parameters!r}, an object expected")
    return parameters


def without_scaling(config: Hyperparameters, defaults: Mapping[str, Any]) -> Rope:
    """The config's rope as it is before LongRoPE scales it; ``defaults`` are the family's."""
    plain = {**rope_parameters(config), "rope_type": "default"}
    return Rope.of(Hyperparameters({**config.config, "rope_parameters": plain}, defaults))


def _factors(parameters: Mapping[str, Any], name: str, length: int) -> tuple[float, ...]:
    values = parameters.get(name)
    numbers = isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf for value in values
    )
    if not numbers or not isinstance(values, list) or len(values) != length:
        found = f"a list of {len(values)}" if isinstance(values, list) else repr(values)
        raise ArchitectureError(f"config.json: rope {name!r} is {found}, a list of {length} positive numbers expected")
    return tuple(float(value) for value in values)
