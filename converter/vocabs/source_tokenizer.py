"""What the proof asks of a source's tokenizer, whatever its files are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

Ids = list[list[int]]


class Reference(ABC):
    """A tokenizer to compare with."""

    @abstractmethod
    def encode(self, texts: Sequence[str], *, add_special: bool) -> Ids:
        """Token ids of each text; ``add_special`` adds begin and end tokens as the source does."""

    def added(self) -> dict[int, str]:
        """Added tokens by id, where the tokenizer itself knows them."""
        return {}

    def suspects(self) -> list[str]:
        """Settings that llama.cpp does not have and that no change of the source takes back, a sentence each."""
        return []

    def relaxations(self) -> Iterator[str]:
        """Give up, one after the other and for good, what llama.cpp does not do; say each time what it was.

        Only what the source really has is given up, and only where llama.cpp has no way to express it.
        """
        yield from ()

    def steps(self) -> tuple[str, ...]:
        """What splits text before merges (``structure.steps``)."""
        return ()

    def run_instead(self, steps: tuple[str, ...]) -> None:
        """Split text by these steps from now on."""
        raise TypeError(f"{type(self).__name__} splits no text before merges")
