"""Where in a checkpoint lies what an adapter speaks of: tensors by names that may differ, experts in any layout."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from converter.checkpoints.tensor import SourceTensor
from converter.errors import CheckpointError

#: Last part of the names of input embeddings.
EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings")
#: Parts of names that releases of transformers spell differently.
SPELLINGS = (
    ("model.language_model.", "language_model.model."),
    ("embed_out.weight", "lm_head.weight"),
    (".block_sparse_moe.", ".mlp."),
    (".block_sparse_moe.input_linear.weight", ".block_sparse_moe.experts.gate_up_proj"),
    (".block_sparse_moe.output_linear.weight", ".block_sparse_moe.experts.down_proj"),
    (".block_sparse_moe.router.layer.", ".block_sparse_moe.router."),
)
#: Names of one expert's matrix, by the parameter that stacks them all and in the order of its rows.
SEPARATE: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")),
    "up_proj": (("up_proj",), ("w1",)),
    "down_proj": (("down_proj",), ("w2",)),
}
_EXPERT = re.compile(r"(.+)\.(\d+)\.(\w+)", re.ASCII)


class Names:
    """The names of a checkpoint's tensors, found by other spellings and beginnings too."""

    def __init__(self, tensors: Mapping[str, SourceTensor]) -> None:
        self.tensors = tensors
        self._by_end: dict[str, list[str]] = defaultdict(list)
        for name in tensors:
            for end in ends(name):
                self._by_end[end].append(name)

    def find(self, name: str, who: str) -> str | None:
        """The checkpoint's name of a tensor: the same, or the only one with the same end.

        What differs at the beginning holds no number, so a layer is never taken for another one.

        Args:
            name: the adapter's name.
            who: the file that holds it, for the message.

        Raises:
            CheckpointError: several tensors end alike.
        """
        spelled = [name, *(name.replace(a, b) for pair in SPELLINGS for a, b in (pair, pair[::-1]) if a in name)]
        for one in spelled:
            if one in self.tensors:
                return one
        for end in (end for one in spelled for end in ends(one)):
            found = self._by_end.get(end, [])
            if len(found) > 1:
                raise CheckpointError(
                    f"{who}: {name} could be {found[0]} or {found[1]} of the base; is this adapter one of this model?"
                )
            if found:
                return found[0]
        return None


def ends(name: str) -> Iterator[str]:
    """A name without its first parts, one after the other; never without a number or its last two parts."""
    parts = name.split(".")
    for start in range(max(1, len(parts) - 1)):
        yield ".".join(parts[start:])
        if parts[start].isdigit():
            return


@dataclass(frozen=True)
class Stacked:
    """A parameter of all experts, wherever their matrices lie.

    Attributes:
        name: the parameter's name in the module, e.g. ``gate_up_proj``.
        shape: (experts, rows, columns) as the checkpoint has it, or would have it if it were stacked.
        parts: by expert, which tensors make its matrix: (tensor, first row in it, rows), in order.
    """

    name: str
    shape: tuple[int, int, int]
    parts: tuple[tuple[tuple[str, int, int], ...], ...]


def stacked_parameters(names: Names, module: str, who: str) -> Iterator[Stacked]:
    """The expert parameters of a module, from stacked tensors or from one matrix for each expert."""
    stacked: set[str] = set()
    for parameter, layouts in SEPARATE.items():
        if parameter == "up_proj" and "gate_up_proj" in stacked:
            continue
        found = names.find(f"{module}.{parameter}", who) or names.find(f"{module}.{parameter}.weight", who)
        if found is not None and len(names.tensors[found].shape) == 3:
            experts, rows, columns = names.tensors[found].shape
            parts = tuple(((found, expert * rows, rows),) for expert in range(experts))
            stacked.add(parameter)
            yield Stacked(parameter, (experts, rows, columns), parts)
            continue
        for layout in layouts:
            separate = tuple(separate_experts(names, module, layout, who))
            if separate:
                shapes = {tuple(names.tensors[name].shape for name, _, _ in one) for one in separate}
                if len(shapes) > 1 or len({shape[1:] for shape in next(iter(shapes))}) > 1:
                    raise CheckpointError(f"{who}: adapts {module}, whose experts in the base are of several shapes")
                rows = sum(count for _, _, count in separate[0])
                columns = names.tensors[separate[0][0][0]].row_length
                stacked.add(parameter)
                yield Stacked(parameter, (len(separate), rows, columns), separate)
                break


def separate_experts(
    names: Names, module: str, layout: tuple[str, ...], who: str
) -> Iterator[tuple[tuple[str, int, int], ...]]:
    """Of one expert after the other, its matrices of these names, all of each."""
    expert = 0
    while True:
        found = [names.find(f"{module}.{expert}.{name}.weight", who) for name in layout]
        if None in found:
            return
        yield tuple((name, 0, names.tensors[name].rows) for name in found if name is not None)
        expert += 1


def within_stack(names: Names, module: str, who: str) -> tuple[str, int, tuple[int, int]] | None:
    """Where one expert's matrix lies in a stacked tensor: its name, the first row, and the matrix's shape."""
    match = _EXPERT.fullmatch(module)
    if match is None:
        return None
    container, expert, projection = match[1], int(match[2]), match[3]
    for parameter, layouts in SEPARATE.items():
        for layout in layouts:
            if projection not in layout:
                continue
            found = names.find(f"{container}.{parameter}", who)
            if found is None or len(names.tensors[found].shape) != 3:
                continue
            experts, height, columns = names.tensors[found].shape
            if expert < experts and height % len(layout) == 0:
                rows = height // len(layout)
                return found, expert * height + layout.index(projection) * rows, (rows, columns)
    return None
