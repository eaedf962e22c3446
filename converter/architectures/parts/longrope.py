"""LongRoPE: frequency factors for texts within the original context, others for longer ones (arXiv:2402.13753)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.parts.rope import DYNAMIC, Rope, rope_section, scaling_of
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, float32, uint32
from converter.sources.source_file import quoted

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
        parameters = rope_section(config)
        name = scaling_of(parameters)
        if name in ("default", DYNAMIC):
            return None
        if name not in NAMES:
            raise ArchitectureError(f"config.json: rope scaling is {quoted(name)}, 'longrope' or none expected")
        short, long = (_factors(parameters, f"{kind}_factor", rotary_dim // 2) for kind in ("short", "long"))
        names = ("original_max_position_embeddings", "max_position_embeddings")
        places = ((fields, name) for name in names for fields in (config, parameters) if name in fields)
        holder, field = next(places, (config, names[0]))
        context, original = config.integer("max_position_embeddings"), holder.integer(field, minimum=2)
        factor = parameters.positive("factor") if "factor" in parameters else context / original
        scale = parameters.optional_positive("attention_factor")
        if scale is None:
            scale = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
        return cls(short, long, original, scale)

    def exact_lengths(self, config: Hyperparameters) -> Iterator[tuple[int, str]]:
        """As :meth:`Family.exact_lengths`: beyond the original context the factors are chosen by different rules."""
        if self.original_context_length < config.integer("max_position_embeddings"):
            yield (
                self.original_context_length,
                "the model changes its rope by the length of the text, llama.cpp by the size of the context",
            )

    def key_values(self, arch: str) -> list[KeyValue]:
        prefix = f"{arch}.rope.scaling"
        return [
            uint32(f"{prefix}.original_context_length", self.original_context_length),
            float32(f"{prefix}.attn_factor", self.attention_factor),
        ]

    def tensors(self) -> Iterator[TargetTensor]:
        for name, factors in (("long", self.long), ("short", self.short)):
            yield TargetTensor(f"rope_factors_{name}.weight", (len(factors),), values=factors)


def without_scaling(config: Hyperparameters) -> Rope:
    """The config's rope as it is before LongRoPE scales it."""
    parameters = rope_section(config)
    return Rope.of(
        config, parameters if scaling_of(parameters) == DYNAMIC else parameters.with_fields(rope_type="default")
    )


def _factors(parameters: Hyperparameters, name: str, length: int) -> tuple[float, ...]:
    factors = parameters.numbers(name, length)
    if not all(factor > 0 for factor in factors):
        raise parameters.refusal(name, f"a list of {length} positive numbers expected")
    return tuple(factors)
