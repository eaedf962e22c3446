"""What an adapter must be to fit its base, and the refusals where it is not."""

from __future__ import annotations

from collections.abc import Mapping

from converter.adapters.files import Adapter
from converter.checkpoints.tensor import SourceTensor
from converter.errors import CheckpointError


def pair(adapter: Adapter, module: str, parts: Mapping[str, SourceTensor], pattern: str) -> list[SourceTensor]:
    """The two matrices of a product."""
    found = [parts.get(pattern.format(side)) for side in "AB"]
    matrices = [tensor for tensor in found if tensor is not None and len(tensor.shape) == 2]
    if len(matrices) < 2:
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in parts.items())
        raise CheckpointError(
            f"{adapter.directory}: {module} has {shapes}; two matrices A and B expected: convolutions are not merged, "
            "and a part that is missing was not saved"
        )
    return matrices


def check_rank(adapter: Adapter, name: str, a: SourceTensor, b: SourceTensor, experts: int = 1) -> None:
    """Refuse matrices of another rank than the configuration says, on which the scale depends."""
    rank = adapter.config.rank(name)
    if (a.rows, b.row_length) != (rank * experts, rank * experts):
        each = f" for each of {experts} experts" if experts > 1 else ""
        raise CheckpointError(
            f"{adapter.directory}: A and B of {name} are {list(a.shape)} and {list(b.shape)}, rank {rank}{each} "
            f"expected from {adapter.config.path.name}"
        )


def absent(adapter: Adapter, name: str) -> CheckpointError:
    return CheckpointError(
        f"{adapter.directory}: adapts {name}, which the base does not hold; is this adapter one of this model?"
    )


def mismatch(
    adapter: Adapter, what: str, found: tuple[int, ...], name: str, expected: tuple[int, ...]
) -> CheckpointError:
    return CheckpointError(
        f"{adapter.directory}: {what} is of shape {list(found)}, but {name} of the base is {list(expected)}; is this "
        "adapter one of this model?"
    )
