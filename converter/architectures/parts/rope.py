"""Rotary position embeddings: transformers' spellings read once, GGUF's key-values and frequency factors written.

transformers 5 keeps everything in ``rope_parameters``; older releases wrote ``rope_theta`` beside ``rope_scaling``,
with ``type`` where ``rope_type`` stands now.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from converter.architectures.hyperparameters import Hyperparameters
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, float32, string, uint32

#: Scalings that llama.cpp runs for families with one rope for all layers.
SCALINGS = ("default", "linear", "yarn", "llama3")


@dataclass(frozen=True)
class Rope:
    """One rope: its base, its scaling and the scaling's parameters.

    Attributes:
        theta: frequency base.
        scaling: one of ``SCALINGS``.
        parameters: the scaling's own fields as transformers names them.
        context_length: ``max_position_embeddings``, the default of yarn's and llama3's original length.
    """

    theta: float
    scaling: str
    context_length: int
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Hyperparameters) -> Rope:
        """Read either spelling.

        Raises:
            ArchitectureError: a scaling that llama.cpp does not run, or a parameter that is no number.
        """
        parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if not isinstance(parameters, dict):
            raise ArchitectureError(f"config.json: rope parameters are {parameters!r}, an object expected")
        scaling = parameters.get("rope_type") or parameters.get("type") or "default"
        if scaling not in SCALINGS:
            raise ArchitectureError(
                f"config.json: rope scaling {scaling!r} cannot be represented; llama.cpp runs {', '.join(SCALINGS)}"
            )
        theta = parameters.get("rope_theta", config.get("rope_theta"))
        original = parameters.get("original_max_position_embeddings", config.get("original_max_position_embeddings"))
        fields = {**parameters, "rope_theta": 10000.0 if theta is None else theta}
        if original is not None:
            fields["original_max_position_embeddings"] = original
        rope = cls(0.0, scaling, config.integer("max_position_embeddings"), fields)
        return cls(rope.number("rope_theta"), scaling, rope.context_length, fields)

    def number(self, name: str, default: float | None = None) -> float:
        value = self.parameters.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ArchitectureError(f"config.json: rope parameter {name!r} is {value!r}, a positive number expected")
        return float(value)

    @property
    def original_context_length(self) -> int:
        return int(self.number("original_max_position_embeddings", self.context_length))

    @property
    def by_frequency(self) -> bool:
        """Whether the scaling is written as one factor for each frequency.

        So it is for llama3's, and for a yarn whose correction range is not the one that llama.cpp assumes in most
        families: it reads no ``yarn_beta_*`` there and always rounds the range.
        """
        if self.scaling != "yarn":
            return self.scaling == "llama3"
        usual = self.number("beta_fast", 32) == 32 and self.number("beta_slow", 1) == 1
        return not usual or self.parameters.get("truncate") is False

    def key_values(self, arch: str) -> list[KeyValue]:
        """``{arch}.rope.*`` as llama.cpp reads it."""
        prefix = f"{arch}.rope"
        pairs = [float32(f"{prefix}.freq_base", self.theta)]
        if self.scaling in ("linear", "yarn") and not self.by_frequency:
            pairs += [
                string(f"{prefix}.scaling.type", self.scaling),
                float32(f"{prefix}.scaling.factor", self.number("factor")),
            ]
        if self.scaling != "yarn":
            return pairs
        if self.by_frequency:
            scale = self.attention_factor
        else:
            pairs.append(uint32(f"{prefix}.scaling.original_context_length", self.original_context_length))
            # llama.cpp scales cos and sin by 1 + 0.1 ln(factor) itself and multiplies that by attn_factor. The key
            # yarn_attn_factor looks more fitting, but is overwritten when a context is made.
            scale = self.attention_factor / yarn_scale(self.number("factor"))
        if not math.isclose(scale, 1.0, rel_tol=1e-6):
            pairs.append(float32(f"{prefix}.scaling.attn_factor", scale))
        return pairs

    @property
    def attention_factor(self) -> float:
        """What yarn multiplies cos and sin by (transformers, ``_compute_yarn_parameters``)."""
        factor = self.number("factor")
        if self.parameters.get("attention_factor") is not None:
            return self.number("attention_factor")
        if self.parameters.get("mscale") and self.parameters.get("mscale_all_dim"):
            return yarn_scale(factor, self.number("mscale")) / yarn_scale(factor, self.number("mscale_all_dim"))
        return yarn_scale(factor)

    def frequency_factors(self, head_dim: int) -> tuple[float, ...] | None:
        """What each rotated pair's frequency is divided by (``rope_freqs.weight``), or None where no tensor is needed.

        Args:
            head_dim: elements of a head that are rotated; the factors are half as many.
        """
        if not self.by_frequency:
            return None
        return self._yarn_factors(head_dim) if self.scaling == "yarn" else self._llama3_factors(head_dim)

    def _llama3_factors(self, head_dim: int) -> tuple[float, ...]:
        """Frequencies whose wavelength is short against the original context stay, long ones are divided by
        ``factor``, those between are interpolated (transformers, ``_compute_llama3_parameters``)."""
        factor, low, high = self.number("factor"), self.number("low_freq_factor"), self.number("high_freq_factor")
        if high < low:
            raise ArchitectureError(f"config.json: rope high_freq_factor {high} is below low_freq_factor {low}")
        original = self.original_context_length
        factors = []
        for index in range(0, head_dim, 2):
            wavelength = 2 * math.pi * self.theta ** (index / head_dim)
            if wavelength < original / high:
                factors.append(1.0)
            elif wavelength > original / low or high == low:
                factors.append(factor)
            else:
                smooth = (original / wavelength - low) / (high - low)
                factors.append(1 / ((1 - smooth) / factor + smooth))
        return tuple(factors)

    def _yarn_factors(self, head_dim: int) -> tuple[float, ...]:
        """Fast frequencies stay, slow ones are divided by ``factor``, with a ramp over the correction range between
        (transformers, ``_compute_yarn_parameters``; arXiv:2309.00071, section 3.2)."""

        def pair_of(rotations: float) -> float:
            """Where in the head a pair makes that many rotations over the original context."""
            turns = self.original_context_length / (rotations * 2 * math.pi)
            return head_dim * math.log(turns) / (2 * math.log(self.theta))

        low, high = pair_of(self.number("beta_fast", 32)), pair_of(self.number("beta_slow", 1))
        if self.parameters.get("truncate") is not False:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, head_dim - 1)
        width = high - low or 0.001
        ramp = [min(max((pair - low) / width, 0.0), 1.0) for pair in range(head_dim // 2)]
        return tuple(1 / (share / self.number("factor") + 1 - share) for share in ramp)


def yarn_scale(factor: float, mscale: float = 1.0) -> float:
    """Yarn's attention scale, ``0.1 * mscale * ln(factor) + 1`` (arXiv:2309.00071, section 3.4)."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def rotated_elements(config: Hyperparameters, head_dim: int, default: float) -> int:
    """Elements of a head that rope rotates, the first ones.

    Args:
        config: ``partial_rotary_factor`` stands in ``rope_parameters``, or beside it in older files.
        head_dim: elements of a head.
        default: the factor where config.json has none.

    Raises:
        ArchitectureError: the factor is no number, or gives no even number of elements.
    """
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    factor = parameters.get("partial_rotary_factor") if isinstance(parameters, dict) else None
    factor = config.get("partial_rotary_factor") if factor is None else factor
    factor = default if factor is None else factor
    number = isinstance(factor, int | float) and not isinstance(factor, bool)
    rotated = int(head_dim * factor) if number and 0 < factor <= 1 else 0
    if rotated < 2 or rotated % 2:
        raise ArchitectureError(
            f"config.json: 'partial_rotary_factor' is {factor!r}, a share of the {head_dim} elements of a head that is "
            "an even number expected"
        )
    return rotated
