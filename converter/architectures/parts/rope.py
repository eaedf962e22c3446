"""Rotary position embeddings: transformers' spellings read once, GGUF's key-values and frequency factors written.

transformers 5 keeps everything in ``rope_parameters``; older releases wrote ``rope_theta`` beside ``rope_scaling``,
with ``type`` where ``rope_type`` stands now.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from converter.architectures.hyperparameters import Hyperparameters
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, float32, string, uint32
from converter.sources.source_file import quoted

#: Scalings that llama.cpp runs for families with one rope for all layers.
SCALINGS = ("default", "linear", "yarn", "llama3")

#: A scaling that changes nothing in texts up to ``max_position_embeddings``; llama.cpp has none like it.
DYNAMIC = "dynamic"

#: Base where neither config.json nor the family has one.
USUAL_THETA = 10000.0


@dataclass(frozen=True)
class Rope:
    """One rope: its base, its scaling and the scaling's parameters.

    Attributes:
        theta: frequency base.
        scaling: one of ``SCALINGS``.
        context_length: ``max_position_embeddings``, the default of yarn's and llama3's original length.
        parameters: the scaling's own fields as transformers names them.
        original: the length in tokens that yarn and llama3 extend, where it stands outside of ``parameters``.
        exact_length: tokens up to which the rope is the model's; None for any number.
    """

    theta: float
    scaling: str
    context_length: int
    parameters: Hyperparameters = field(default_factory=lambda: Hyperparameters({}))
    original: int | None = None
    exact_length: int | None = None

    @classmethod
    def of(cls, config: Hyperparameters, parameters: Hyperparameters | None = None) -> Rope:
        """Read either spelling.

        Args:
            config: the whole, for what stands outside of the rope's parameters.
            parameters: the rope's own where the family has several; those of ``config`` by default.

        Raises:
            ArchitectureError: a scaling that llama.cpp does not run, or a parameter that is no number.
        """
        section = rope_section(config) if parameters is None else parameters
        scaling = scaling_of(section)
        if scaling not in (*SCALINGS, DYNAMIC):
            raise ArchitectureError(
                f"config.json: rope scaling {quoted(scaling)} cannot be represented; llama.cpp runs "
                f"{', '.join(SCALINGS)}"
            )
        theta = next((fields.positive("rope_theta") for fields in (section, config) if "rope_theta" in fields), None)
        context_length = config.integer("max_position_embeddings")
        exact_length = None
        if scaling == DYNAMIC:
            section.positive("factor")
            scaling, exact_length = "default", context_length
        # The field outside overrides the one among the parameters (transformers, ``standardize_rope_params``).
        original = config.optional_integer("original_max_position_embeddings")
        return cls(USUAL_THETA if theta is None else theta, scaling, context_length, section, original, exact_length)

    def exact_lengths(self) -> Iterator[tuple[int, str]]:
        """As :meth:`Family.exact_lengths`."""
        if self.exact_length is not None:
            yield self.exact_length, "llama.cpp has no dynamic rope scaling"

    def number(self, name: str, default: float | None = None) -> float:
        """A parameter, a positive number; ArchitectureError for anything else."""
        return self.parameters.positive(name) if default is None or name in self.parameters else default

    @property
    def factor(self) -> float:
        """How many times longer the scaled context is."""
        if self.scaling == "yarn" and self.parameters.says_none("factor"):
            return self.context_length / self.original_context_length
        return self.number("factor")

    @property
    def original_context_length(self) -> int:
        if self.original is not None:
            return self.original
        inside = self.parameters.optional_integer("original_max_position_embeddings")
        return self.context_length if inside is None else inside

    @property
    def by_frequency(self) -> bool:
        """Whether the scaling is written as one factor for each frequency.

        So it is for llama3's, and for a yarn whose correction range is not the one that llama.cpp assumes in most
        families: it reads no ``yarn_beta_*`` there and always rounds the range.
        """
        if self.scaling != "yarn":
            return self.scaling == "llama3"
        usual = self.number("beta_fast", 32) == 32 and self.number("beta_slow", 1) == 1
        return not usual or not self.truncates

    @property
    def truncates(self) -> bool:
        """Whether yarn's correction range is rounded to whole pairs."""
        return self.parameters.optional_flag("truncate") is not False

    def key_values(self, arch: str) -> list[KeyValue]:
        """``{arch}.rope.*`` as llama.cpp reads it."""
        prefix = f"{arch}.rope"
        pairs = [float32(f"{prefix}.freq_base", self.theta)]
        if self.scaling in ("linear", "yarn") and not self.by_frequency:
            pairs += [
                string(f"{prefix}.scaling.type", self.scaling),
                float32(f"{prefix}.scaling.factor", self.factor),
            ]
        if self.scaling != "yarn":
            return pairs
        if self.by_frequency:
            scale = self.attention_factor
        else:
            pairs.append(uint32(f"{prefix}.scaling.original_context_length", self.original_context_length))
            # llama.cpp scales cos and sin by 1 + 0.1 ln(factor) itself and multiplies that by attn_factor. The key
            # yarn_attn_factor looks more fitting, but is overwritten when a context is made.
            scale = self.attention_factor / yarn_scale(self.factor)
        if not math.isclose(scale, 1.0, rel_tol=1e-6):
            pairs.append(float32(f"{prefix}.scaling.attn_factor", scale))
        return pairs

    @property
    def attention_factor(self) -> float:
        """What yarn multiplies cos and sin by (transformers, ``_compute_yarn_parameters``)."""
        factor = self.factor
        if "attention_factor" in self.parameters:
            return self.number("attention_factor")
        mscale, of_all = (self.multiplier(name) for name in ("mscale", "mscale_all_dim"))
        return yarn_scale(factor, mscale) / yarn_scale(factor, of_all) if mscale and of_all else yarn_scale(factor)

    def multiplier(self, name: str) -> float:
        """``mscale`` or ``mscale_all_dim``, 0 where yarn goes without; ArchitectureError for one below 0."""
        value = self.parameters.number(name) if name in self.parameters else 0.0
        if value < 0:
            raise self.parameters.refusal(name, "a number of at least 0 expected")
        return value

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
        factor, low, high = self.factor, self.number("low_freq_factor"), self.number("high_freq_factor")
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

        if self.theta == 1:
            raise ArchitectureError("config.json: rope's base is 1, at which yarn has no frequencies to scale")
        low, high = pair_of(self.number("beta_fast", 32)), pair_of(self.number("beta_slow", 1))
        if self.truncates:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, head_dim - 1)
        width = high - low or 0.001
        ramp = [min(max((pair - low) / width, 0.0), 1.0) for pair in range(head_dim // 2)]
        return tuple(1 / (share / self.factor + 1 - share) for share in ramp)


def yarn_scale(factor: float, mscale: float = 1.0) -> float:
    """Yarn's attention scale, ``0.1 * mscale * ln(factor) + 1`` (arXiv:2309.00071, section 3.4)."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def rope_section(config: Hyperparameters) -> Hyperparameters:
    """The rope's parameters: ``rope_scaling`` where it holds something, as transformers reads it, else
    ``rope_parameters``; empty where config.json has neither."""
    older = config.section("rope_scaling")
    return older if any(older) else config.section("rope_parameters")


def scaling_of(parameters: Hyperparameters) -> str:
    """The scaling's name, in either spelling; "default" where there is none."""
    return next((parameters.text(name) for name in ("rope_type", "type") if name in parameters), "default")


def rotated_elements(config: Hyperparameters, head_dim: int, default: float) -> int:
    """Elements of a head that rope rotates, the first ones.

    Args:
        config: ``partial_rotary_factor`` stands among the rope's parameters, or beside them in older files.
        head_dim: elements of a head.
        default: the factor where config.json has none.

    Raises:
        ArchitectureError: the factor is no number, or gives no even number of elements.
    """
    return rotated_share(head_dim, rope_section(config), config, default=default)


def rotated_share(head_dim: int, *places: Hyperparameters, default: float) -> int:
    """The same, with the factor in the first of the places that has it."""
    name = "partial_rotary_factor"
    holder = next((place for place in places if name in place), Hyperparameters({name: default}))
    factor = holder.positive(name)
    rotated = int(head_dim * factor) if factor <= 1 else 0
    if rotated < 2 or rotated % 2:
        raise holder.refusal(name, f"a share of the {head_dim} elements of a head that is an even number expected")
    return rotated
