"""The tensors of a quantized checkpoint, taken one by one by the reader that knows what belongs together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converter.checkpoints.safetensors import SafetensorsTensor
from converter.checkpoints.tensor import SourceTensor
from converter.errors import CheckpointError
from converter.sources.source_file import quoted

FLOATS = ("F32", "F16", "BF16")
"""Types of scales that are plain numbers."""


class Parts:
    """What a reader takes from, and what it gives back.

    Args:
        config: the file that holds ``settings``, for messages.
        settings: ``quantization_config``.
        tensors: every stored tensor by name.

    Attributes:
        notices: what a reader found that the user should know, a sentence each.
    """

    def __init__(self, config: Path, settings: dict[str, Any], tensors: Mapping[str, SafetensorsTensor]) -> None:
        self.config = config
        self.settings = settings
        self.notices: list[str] = []
        self._tensors = tensors
        self._replaced: dict[str, SourceTensor | None] = {}

    def bases(self, suffix: str) -> list[str]:
        """What stands before ``suffix`` in the names that end with it, of tensors not yet taken."""
        return [name.removesuffix(suffix) for name in self._tensors if name.endswith(suffix) and name not in self]

    def remaining(self, dtype: str) -> list[SafetensorsTensor]:
        """Tensors of a type that were not taken."""
        return [tensor for name, tensor in self._tensors.items() if tensor.dtype == dtype and name not in self]

    def __contains__(self, name: str) -> bool:
        """Whether this tensor was taken."""
        return name in self._replaced

    def get(self, name: str) -> SafetensorsTensor | None:
        return self._tensors.get(name)

    def take(self, name: str, owner: str, dtypes: tuple[str, ...], *shape: int | None) -> SafetensorsTensor:
        """A tensor that will not be seen any more.

        Args:
            name: its name.
            owner: the tensor that needs it, for the message.
            dtypes: what its type may be.
            shape: its sizes, None for any; nothing to leave the whole shape open.

        Raises:
            CheckpointError: it is missing, or of another type or shape.
        """
        if (tensor := self._tensors.get(name)) is None:
            raise self.refused(owner, f"has no {name} beside it; download the checkpoint again")
        if tensor.dtype not in dtypes:
            raise self.refused(name, f"is of type {tensor.dtype}, expected {' or '.join(dtypes)}")
        fits = len(shape) == len(tensor.shape) and all(
            wanted in (None, size) for wanted, size in zip(shape, tensor.shape, strict=True)
        )
        if shape and not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise self.refused(name, f"has shape {quoted(tensor.shape)}, expected ({wanted}) as {owner} needs it")
        self._replaced[name] = None
        return tensor

    def take_any(self, name: str) -> None:
        """A tensor that plays no part in the weights, such as a scale of activations; it may be missing."""
        if name in self._tensors:
            self._replaced[name] = None

    def give(self, tensor: SourceTensor, stored: str) -> None:
        """Offer ``tensor`` in the place of the tensor ``stored``.

        Raises:
            CheckpointError: the checkpoint holds another tensor of that name.
        """
        if tensor.name != stored and tensor.name in self._tensors:
            raise self.refused(stored, f"stands for {tensor.name}, which is there too; remove one of them")
        self._replaced[stored] = tensor

    def tensors(self) -> dict[str, SourceTensor]:
        """All tensors in the order of the files, those given in the place of what they were made from."""
        kept = (self._replaced.get(name, tensor) for name, tensor in self._tensors.items())
        return {tensor.name: tensor for tensor in kept if tensor is not None}

    def setting(self, name: str, default: Any, *allowed: Any, within: Mapping[str, Any] | None = None) -> Any:
        """A value of ``quantization_config``, or of an object ``within`` it.

        Raises:
            CheckpointError: it is not one of ``allowed``.
        """
        value = (self.settings if within is None else within).get(name, default)
        if not any(type(value) is type(choice) and value == choice for choice in allowed):
            choices = ", ".join(quoted(choice) for choice in allowed)
            raise CheckpointError(
                f"{self.config}: {name} in quantization_config is {quoted(value)}, which is not read; "
                f"expected {choices}; convert the checkpoint that was quantized"
            )
        return value

    def refused(self, name: str, what: str) -> CheckpointError:
        """A refusal that says of the tensor ``name`` what is wrong with it."""
        tensor = self._tensors.get(name)
        return CheckpointError(f"{self.config if tensor is None else tensor.file.path}: tensor {name} {what}")
