"""Mixtures of experts: experts in files of any layout become one tensor for each projection.

llama.cpp holds a projection of all experts in one tensor of shape (experts, out, in). Checkpoints hold

- one matrix for each expert and projection, as transformers saves them:
  ``experts.{e}.gate_proj.weight`` (inner, width) and so on, or
- fused, as transformers 5 keeps them in memory: ``experts.gate_up_proj`` (experts, 2 × inner, width), whose first half
  of rows is the gate's, and ``experts.down_proj`` (experts, width, inner).
"""

from __future__ import annotations

from collections.abc import Iterator

from converter.architectures.family import Family
from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.target import Piece, RowMap, TargetTensor, row_run
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, boolean, float32, uint32

#: llama.cpp's numbers of what turns a router's outputs into probabilities.
SOFTMAX, SIGMOID = 1, 2

#: Most experts that llama.cpp holds (LLAMA_MAX_EXPERTS).
MOST_EXPERTS = 1024


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


def expert_key_values(arch: str, counts: tuple[int, int]) -> list[KeyValue]:
    return [uint32(f"{arch}.expert_count", counts[0]), uint32(f"{arch}.expert_used_count", counts[1])]


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


def sigmoid_choice(config: Hyperparameters, arch: str, experts: int) -> list[KeyValue]:
    """How experts are weighed and chosen where a sigmoid turns the router's outputs into probabilities.

    Fields are those of DeepSeek V3: the chosen weights may be divided by their sum, and are multiplied by a factor; the
    choice is among the ``topk_group`` best of ``n_group`` groups, a group being as good as its two best experts.

    Raises:
        ArchitectureError: the factor is not positive, or the experts do not fall into such groups.
    """
    factor = config.positive("routed_scaling_factor")
    pairs = [
        uint32(f"{arch}.expert_gating_func", SIGMOID),
        float32(f"{arch}.expert_weights_scale", factor),
        boolean(f"{arch}.expert_weights_norm", config.flag("norm_topk_prob")),
    ]
    groups, used = config.integer("n_group"), config.integer("topk_group")
    if used >= groups:
        return pairs
    if experts % groups or experts // groups < 2:
        raise ArchitectureError(
            f"config.json: 'n_group' is {groups}, but {experts} experts do not fall into as many groups of two or more"
        )
    return [
        *pairs,
        uint32(f"{arch}.expert_group_count", groups),
        uint32(f"{arch}.expert_group_used_count", used),
    ]


def shared_expert(family: Family, target: str, source: str, shape: tuple[int, int]) -> Iterator[TargetTensor]:
    """What every token uses beside its chosen experts: three projections, of (inner, width) and back."""
    for name in ("gate", "up", "down"):
        projection = shape[::-1] if name == "down" else shape
        yield family.tensor(f"{target}.ffn_{name}_shexp.weight", f"{source}.{name}_proj.weight", projection)


def expert_stacks(
    family: Family,
    target: str,
    source: str,
    shape: tuple[int, int, int],
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
    fused: tuple[str, str] = ("gate_up_proj", "down_proj"),
) -> Iterator[TargetTensor]:
    """``{target}.ffn_gate_exps``, ``ffn_up_exps`` and ``ffn_down_exps`` of a block.

    Args:
        family: whose sources these are.
        target: the block, e.g. ``blk.0``.
        source: the experts, e.g. ``model.layers.0.mlp.experts``.
        shape: (experts, inner, width): how many, rows of a gate, elements of the hidden state.
        names: of an expert's gate, up and down projection where experts are separate.
        fused: of the stacked gate-and-up and down projections.

    Raises:
        CheckpointError: neither layout is there whole and in these shapes.
    """
    experts, inner, width = shape
    gate_up, down = (f"{source}.{name}" for name in fused)
    if gate_up in family.sources:
        yield from cut_gate_up(family, target, gate_up, shape)
        yield family.tensor(f"{target}.ffn_down_exps.weight", down, (experts, width, inner))
        return
    for projection, name in zip(("gate", "up", "down"), names, strict=True):
        rows, row_length = (width, inner) if projection == "down" else (inner, width)
        pieces = []
        for expert in range(experts):
            matrix = f"{source}.{expert}.{name}.weight"
            family.source(matrix, (rows, row_length))
            pieces.append(Piece(matrix))
        yield TargetTensor(f"{target}.ffn_{projection}_exps.weight", (experts, rows, row_length), tuple(pieces))


def cut_gate_up(family: Family, target: str, source: str, shape: tuple[int, int, int]) -> Iterator[TargetTensor]:
    """Gate and up projections out of one tensor of shape (experts, 2 × inner, width), the gate's rows first."""
    experts, inner, width = shape
    family.source(source, (experts, 2 * inner, width))
    for projection, offset in (("gate", 0), ("up", inner)):
        rows = RowMap(offset, ((experts, 2 * inner), (inner, 1)))
        yield TargetTensor(f"{target}.ffn_{projection}_exps.weight", shape, (Piece(source, rows),))


def fused_halves(
    family: Family, first: str, second: str, source: str, shape: tuple[int, int]
) -> Iterator[TargetTensor]:
    """Two matrices of the same shape (rows, row length) that one source matrix holds one below the other."""
    rows, row_length = shape
    family.source(source, (2 * rows, row_length))
    for target, start in ((first, 0), (second, rows)):
        yield TargetTensor(target, shape, (Piece(source, row_run(start, rows)),))
