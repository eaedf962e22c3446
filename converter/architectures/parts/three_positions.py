"""The rope of text models whose positions are three numbers: time, row and column.

Each of them turns some of a head's pairs. In a text the three are alike, so that the rope is the usual one; the file
says which number turns which pair, for programs that feed llama.cpp images through a vision tower of another file.
"""

from __future__ import annotations

from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.rope import Rope
from converter.errors import ArchitectureError
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
        config = self.config
        given = config.get("rope_parameters") or config.get("rope_scaling")
        if isinstance(given, dict) and (given.get("rope_type") or given.get("type")) == "mrope":
            plain = {**given, "rope_type": "default", "type": "default"}
            config = Hyperparameters({**config.config, "rope_parameters": plain}, self.defaults)
        return Rope.of(config)

    @property
    def sections(self) -> list[int]:
        """Pairs of time, row and column."""
        given = self.rope.parameters.get("mrope_section")
        sections = list(self.usual_sections) if given is None else given
        pairs = self.rotary_dim // 2
        whole = isinstance(sections, list) and all(type(count) is int and count >= 0 for count in sections)
        if not whole or len(sections) != 3 or sum(sections) != pairs:
            raise ArchitectureError(
                f"config.json: rope parameter 'mrope_section' is {sections!r}, three counts expected that add up to "
                f"the {pairs} pairs of a head"
            )
        return sections

    def key_values(self) -> list[KeyValue]:
        # llama.cpp takes a fourth one, of what images don't have.
        sections = array(f"{self.arch}.rope.dimension_sections", [*self.sections, 0], GGUFValueType.INT32)
        return [*super().key_values(), sections]
