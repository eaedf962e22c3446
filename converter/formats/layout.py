"""What all containers share: a plan, the files it goes to, and what is written before the tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from converter.plan import Plan, Positions

if TYPE_CHECKING:
    from converter.model import OpenModel
    from converter.request import Request


@dataclass(frozen=True)
class Layout(ABC):
    """The files of an output.

    Attributes:
        plan: the tensors; ``file`` of each is the number of a name in ``names``.
        names: files that hold tensors, relative to the output; none where the output is one file itself.
        gathered: the output is a directory of these files; otherwise they lie beside each other.
    """

    plan: Plan
    names: tuple[str, ...] = ()
    gathered: bool = False

    @abstractmethod
    def write_headers(self, paths: Sequence[Path]) -> Positions:
        """Write all that is not a tensor, and give each file its full length.

        Args:
            paths: one for each name, or the one file; those of a directory may get further files beside them.

        Returns:
            For each planned tensor the positions of its stored tensors in their file.
        """

    def sealed(self, paths: Sequence[Path]) -> Sequence[Sequence[tuple[int, int]]]:
        """For each file the runs of bytes, from the first to behind the last, that :meth:`seal` fills in."""
        return [() for _ in paths]

    def seal(self, paths: Sequence[Path]) -> None:  # noqa: B027 (most formats have nothing to do)
        """Complete the files once every tensor is written, as with checksums."""


@dataclass(frozen=True)
class Prepared:
    """A conversion that only has to be run.

    Attributes:
        layout: the plan and its files.
        importance: weights of columns by target tensor.
        warnings: what the user should know, one sentence each.
    """

    layout: Layout
    importance: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def plan(self) -> Plan:
        return self.layout.plan


class Format(ABC):
    """A container: which methods it has, and how a model is laid out in it.

    Attributes:
        name: as ``--format`` takes it.
        suffix: of a default output name, after the method's.
        directory: whether an output is a directory.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    directory: ClassVar[bool]

    @property
    @abstractmethod
    def methods(self) -> tuple[str, ...]:
        """Names of all its methods."""

    @abstractmethod
    def find_method(self, name: str) -> str:
        """The method's name as this format spells it.

        Raises:
            UsageError: the format has no such method; names the nearest.
        """

    @abstractmethod
    def prepare(self, model: OpenModel, request: Request) -> Prepared:
        """Decide everything about the output; ConversionError where it cannot be made."""
