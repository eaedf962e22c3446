"""The rope of text models whose positions are three numbers: time, row and column.

Each of them turns some of a head's pairs. In a text the three are alike, so that the rope is the usual one; the file
says which number turns which pair, for programs that feed llama.cpp images through a vision tower of another file.
"""

from __future__ import annotations

from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.rope import Rope, rope_section, scaling_of
from converter.gguf.key_values import KeyValue, array


class ThreePositions(Decoder):
    """The rope of Qwen's models that read images: ``mrope_section`` says how many pairs each number turns.

    Attributes:
        usual_sections: transformers' where config.json has none.
    """

    usual_sections: ClassVar[tuple[int, int, int]] = (16, 24, 24)

    @property
    def rope(self) -> Rope:
        """The published files call the scaling "mrope"; transformers reads that as none, and so it is."""
        given = rope_section(self.config)
        return Rope.of(self.config, given.with_fields(rope_type="default") if scaling_of(given) == "mrope" else given)

    @property
    def sections(self) -> list[int]:
        """Pairs of time, row and column."""
        parameters, field, pairs = self.rope.parameters, "mrope_section", self.rotary_dim // 2
        sections = parameters.integers(field, 3) if field in parameters else list(self.usual_sections)
        if sum(sections) != pairs:
            raise parameters.with_fields(mrope_section=sections).refusal(
                field, f"three counts expected that add up to the {pairs} pairs of a head"
            )
        return sections

    def key_values(self) -> list[KeyValue]:
        # llama.cpp takes a fourth one, of what images don't have.
        sections = array(f"{self.arch}.rope.dimension_sections", [*self.sections, 0], GGUFValueType.INT32)
        return [*super().key_values(), sections]
