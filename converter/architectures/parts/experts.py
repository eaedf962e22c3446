"""Mixtures of experts: what a layer's mixture is, what llama.cpp reads of it, and its tensors.

llama.cpp holds a projection of all experts in one tensor of shape (experts, out, in). Checkpoints hold

- one matrix for each expert and projection, as transformers saves them:
  ``experts.{e}.gate_proj.weight`` (inner, width) and so on, or
- fused, as transformers 5 keeps them in memory: ``experts.gate_up_proj`` (experts, 2 × inner, width), whose first half
  of rows is the gate's, and ``experts.down_proj`` (experts, width, inner).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from converter.architectures.family import Family
from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.layer import Layer, Names
from converter.architectures.target import Piece, RowMap, TargetTensor, row_run
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, boolean, float32, uint32

#: llama.cpp's numbers of what turns a router's outputs into probabilities.
SOFTMAX, SIGMOID = 1, 2

#: Most experts that llama.cpp holds (LLAMA_MAX_EXPERTS).
MOST_EXPERTS = 1024

#: What llama.cpp reads of a mixture, in the order of most archs.
COUNTS = ("expert_count", "expert_used_count")
LENGTH = (*COUNTS, "expert_feed_forward_length")
#: How it is told to weigh and choose experts.
CHOICE = (
    "expert_gating_func",
    "expert_weights_scale",
    "expert_weights_norm",
    "expert_group_count",
    "expert_group_used_count",
)


@dataclass(frozen=True)
class Mixture:
    """The mixture of experts in a model's layers.

    What is None has no key in the file.

    Attributes:
        experts, used: how many there are to choose from, and how many each token uses.
        length: feed-forward length of one.
        dense: how many first layers have none.
        layers: for each layer whether it has experts; None for all behind the dense ones.
        step: every how many layers one has experts, as llama.cpp is told.
        shared: how many experts every token uses beside the chosen ones.
        shared_length: feed-forward length of all these together; 0 without.
        gating: what turns the router's outputs into probabilities, ``SOFTMAX`` or ``SIGMOID``.
        scale: what the chosen experts' weights are multiplied by.
        normalized: whether they are divided by their sum before.
        groups: how many groups the experts fall into, and among how many of these each token chooses.
        latent: elements of the projection of the hidden state that experts work on.
    """

    experts: int
    used: int
    length: int
    dense: int = 0
    layers: Sequence[bool] | None = None
    step: int | None = None
    shared: int | None = None
    shared_length: int = 0
    gating: int | None = None
    scale: float | None = None
    normalized: bool | None = None
    groups: tuple[int, int] | None = None
    latent: int | None = None

    @classmethod
    def of(cls, config: Hyperparameters, count: str, used: str, length: str, **others: Any) -> Mixture:
        """Read from the fields of these names.

        Raises:
            ArchitectureError: more are used than there are, or more exist than llama.cpp holds.
        """
        return cls(*expert_counts(config, count, used), config.integer(length), **others)

    def stands_in(self, layer: Layer) -> bool:
        """Whether a layer has experts."""
        return layer.number >= self.dense if self.layers is None else self.layers[layer.number]

    def key_values(self, arch: str, keys: Sequence[str]) -> list[KeyValue]:
        """``{arch}.{key}`` of these keys, in their order, as far as there is something to say."""
        groups = self.groups or (None, None)
        integers = {
            "expert_count": self.experts,
            "expert_used_count": self.used,
            "expert_feed_forward_length": self.length,
            "expert_shared_count": self.shared,
            "expert_shared_feed_forward_length": self.shared_length or None,
            "leading_dense_block_count": self.dense,
            "interleave_moe_layer_step": self.step,
            "moe_latent_size": self.latent,
            "expert_gating_func": self.gating,
            "expert_group_count": groups[0],
            "expert_group_used_count": groups[1],
        }
        pairs = {name: uint32(f"{arch}.{name}", value) for name, value in integers.items() if value is not None}
        if self.scale is not None:
            pairs["expert_weights_scale"] = float32(f"{arch}.expert_weights_scale", self.scale)
        if self.normalized is not None:
            pairs["expert_weights_norm"] = boolean(f"{arch}.expert_weights_norm", self.normalized)
        return [pairs[key] for key in keys if key in pairs]


def expert_counts(config: Hyperparameters, count: str, used: str) -> tuple[int, int]:
    """How many experts there are and how many each token uses, from the fields of those names.

    Raises:
        ArchitectureError: more are used than there are, or more exist than llama.cpp holds.
    """
    experts, chosen = config.integer(count), config.integer(used)
    if experts > MOST_EXPERTS:
        raise ArchitectureError(f"config.json: {count!r} is {experts}, llama.cpp holds at most {MOST_EXPERTS} experts")
    if chosen > experts:
        raise ArchitectureError(f"config.json: {used!r} is {chosen}, but {count!r} is only {experts}")
    return experts, chosen


def leading_dense(config: Hyperparameters, arch: str, usual: int) -> int:
    """How many first layers have no experts, from ``mlp_layer_types``; ``usual`` where config.json has none.

    Raises:
        ArchitectureError: a dense layer follows one with experts.
    """
    layers = config.integer("num_hidden_layers")
    kinds = config.by_layer("mlp_layer_types", layers, ("dense", "sparse"))
    if kinds is None:
        return usual
    dense = kinds.count("dense")
    if "dense" in kinds[dense:]:
        raise config.refusal(
            "mlp_layer_types",
            f"but llama.cpp runs {arch} only with all 'dense' of {layers} layers before all 'sparse'",
        )
    return dense


def weights_scale(config: Hyperparameters, name: str = "routed_scaling_factor") -> float:
    """What the chosen experts' weights are multiplied by.

    Raises:
        ArchitectureError: that is not positive.
    """
    return config.positive(name)


def sigmoid_choice(config: Hyperparameters, experts: int) -> dict[str, Any]:
    """How experts are weighed and chosen where a sigmoid turns the router's outputs into probabilities, as arguments
    of :class:`Mixture`.

    Fields are those of DeepSeek V3: the chosen weights may be divided by their sum, and are multiplied by a factor; the
    choice is among the ``topk_group`` best of ``n_group`` groups, a group being as good as its two best experts.

    Raises:
        ArchitectureError: the factor is not positive, or the experts do not fall into such groups.
    """
    choice = {
        "gating": SIGMOID,
        "scale": weights_scale(config),
        "normalized": config.flag("norm_topk_prob"),
    }
    groups, used = config.integer("n_group"), config.integer("topk_group")
    if used >= groups:
        return choice
    if experts % groups or experts // groups < 2:
        raise ArchitectureError(
            f"config.json: 'n_group' is {groups}, but {experts} experts do not fall into as many groups of two or more"
        )
    return {**choice, "groups": (groups, used)}


def expert_names(
    *places: str,
    apart: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
    fused: tuple[str, str] = ("gate_up_proj", "down_proj"),
) -> dict[str, tuple[str, ...]]:
    """Names of the experts' projections, fused or one by one.

    Args:
        places: the module of all experts, e.g. ``mlp.experts``; several where releases differ.
        apart: an expert's gate, up and down projection where experts are separate.
        fused: the stacked gate-and-up and down projections.
    """
    stacked = (fused[0], *fused)
    return {
        f"ffn_{projection}_exps": tuple(
            spelled for place in places for spelled in (f"{place}.{one}", f"{place}.*.{other}")
        )
        for projection, one, other in zip(("gate", "up", "down"), stacked, apart, strict=True)
    }


def gated_names(place: str, suffix: str = "") -> Names:
    """Names of a gate, an up and a down projection: of a layer's feed-forward, or with ``_shexp`` of what all tokens
    use beside their experts."""
    return {f"ffn_{name}{suffix}": f"{place}.{name}_proj" for name in ("gate", "up", "down")}


def expert_stacks(family: Family, layer: Layer, shape: tuple[int, int, int]) -> Iterator[TargetTensor]:
    """``ffn_gate_exps``, ``ffn_up_exps`` and ``ffn_down_exps`` of a layer, as far as the family's names have them.

    Args:
        family: whose sources these are.
        layer: the layer.
        shape: (experts, inner, width): how many, rows of a gate, elements of the hidden state.

    Raises:
        CheckpointError: no layout is there whole and in these shapes.
    """
    experts, inner, width = shape
    parts = [name for name in ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps") if name in family.names]
    first = spellings(family, layer, parts[0])
    layout = first.index(family.source_name(parts[0], layer))
    names = {part: spellings(family, layer, part)[layout] for part in parts}
    fused = names.get("ffn_gate_exps") == names["ffn_up_exps"]
    # Stacked projections are modules in some releases, parameters in others.
    suffix = ".weight" if f"{first[layout]}.weight" in family.sources else ""
    if fused:
        yield from cut_gate_up(family, layer, f"{first[layout]}{suffix}", shape)
    for part in parts[2:] if fused else parts:
        size = (width, inner) if part == "ffn_down_exps" else (inner, width)
        target, name = f"{layer.target}.{part}.weight", names[part]
        if "*" not in name:
            yield family.tensor(target, f"{name}{suffix}", (experts, *size))
            continue
        matrices = [f"{name.replace('*', str(expert))}.weight" for expert in range(experts)]
        for matrix in matrices:
            family.source(matrix, size)
        yield TargetTensor(target, (experts, *size), tuple(Piece(matrix) for matrix in matrices))


def spellings(family: Family, layer: Layer, part: str) -> list[str]:
    """All names that a part may have."""
    spelled = family.names[part]
    return [family.complete(name, layer) for name in ((spelled,) if isinstance(spelled, str) else spelled)]


def parameter(family: Family, name: str) -> str:
    """A tensor's name, of a module or as it is."""
    return f"{name}.weight" if f"{name}.weight" in family.sources else name


def cut_gate_up(family: Family, layer: Layer, source: str, shape: tuple[int, int, int]) -> Iterator[TargetTensor]:
    """Gate and up projections out of one tensor of shape (experts, 2 × inner, width), the gate's rows first."""
    experts, inner, width = shape
    family.source(source, (experts, 2 * inner, width))
    for projection, offset in (("gate", 0), ("up", inner)):
        rows = RowMap(offset, ((experts, 2 * inner), (inner, 1)))
        yield TargetTensor(f"{layer.target}.ffn_{projection}_exps.weight", shape, (Piece(source, rows),))


def gated_projections(
    family: Family, layer: Layer, shape: tuple[int, int], suffix: str = "", *, bias: bool = False
) -> Iterator[TargetTensor]:
    """Gate, up and down projections, of (inner, width) and back, as far as the family's names have them.

    Where gate and up have the same name, the checkpoint holds one below the other in one matrix.

    Args:
        family: whose sources these are.
        layer: the layer.
        shape: of the gate.
        suffix: what the targets' names end with, ``_shexp`` for what all tokens use beside their experts.
        bias: whether they have biases.
    """
    parts = [f"ffn_{name}{suffix}" for name in ("gate", "up", "down") if f"ffn_{name}{suffix}" in family.names]
    gate, up, down = f"ffn_gate{suffix}", f"ffn_up{suffix}", f"ffn_down{suffix}"
    if gate in parts and family.source_name(gate, layer) == family.source_name(up, layer):
        source, (rows, row_length) = f"{family.source_name(gate, layer)}.weight", shape
        family.source(source, (2 * rows, row_length))
        for part, start in ((gate, 0), (up, rows)):
            yield TargetTensor(f"{layer.target}.{part}.weight", shape, (Piece(source, row_run(start, rows)),))
        parts = [down]
    for part in parts:
        yield from family.projection(layer, part, shape[::-1] if part == down else shape, bias=bias)
