"""A complete output whose verification could not be carried out, kept as ``<output>.unverified``."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from converter.errors import OutputError

SUFFIX = ".unverified"


@dataclass(frozen=True)
class Unverified:
    """An output that lacks a verdict.

    Attributes:
        output: the path that it was made for.
    """

    output: Path

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """The unverified output that a path means: its own name, or the one it will get; None for any other file."""
        if path.name.endswith(SUFFIX):
            return cls(path.with_name(path.name.removesuffix(SUFFIX)))
        one = cls(path)
        return one if one.path.exists() and not path.exists() else None

    @property
    def path(self) -> Path:
        return self.output.with_name(f"{self.output.name}{SUFFIX}")

    @property
    def journal(self) -> Path:
        """What the same command goes on from."""
        return self.path.with_name(f"{self.path.name}.journal")

    @property
    def parts(self) -> list[Path]:
        """The parts of a split GGUF, in order; none of another output."""
        return sorted(self.path.glob("*-of-*.gguf")) if self.path.is_dir() else []

    @property
    def first(self) -> Path:
        """The file, the first of several, or the directory."""
        return next(iter(self.parts), self.path)

    @property
    def names(self) -> dict[Path, Path]:
        """The final path of each file by the one that it has now; a directory stands for its files."""
        return {part: self.output.with_name(part.name) for part in self.parts} or {self.path: self.output}

    def check_name(self) -> None:
        """Refuse to go on where its name is taken.

        Raises:
            OutputError: there is another output of this name.
        """
        for name in self.names.values():
            if name.exists():
                raise OutputError(f"{name}: exists already; move it away, so that {self.path} can get its name")

    def finish(self) -> dict[Path, Path]:
        """Give it its name; the final path of each file by the one that it had."""
        names = self.names
        for now, final in reversed(names.items()):  # the first, which readers open, comes last
            now.replace(final)
        if self.path.is_dir():
            shutil.rmtree(self.path)
        self.journal.unlink(missing_ok=True)
        return names

    def reject(self) -> Path:
        """Call it rejected, and return that path."""
        rejected = self.output.with_name(f"{self.output.name}.rejected")
        if rejected.is_dir():
            shutil.rmtree(rejected)
        self.path.replace(rejected)
        self.journal.unlink(missing_ok=True)
        return rejected
