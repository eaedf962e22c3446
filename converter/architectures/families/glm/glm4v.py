"""The text models of GLM-4.1V, GLM-4.5V and GLM-OCR: GLM-4's with positions of three numbers."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.families.glm.glm4 import Glm4
from converter.architectures.families.glm.glm4_moe import Glm4Moe
from converter.architectures.parts.rope import rotated_elements
from converter.architectures.parts.three_positions import ThreePositions
from converter.architectures.target import RowMap
from converter.errors import ArchitectureError


class GlmPositions(ThreePositions):
    """The first pairs are time's, then come the rows', then the columns'."""

    usual_sections = (8, 12, 12)
    predicts_ahead = True

    @property
    def sections(self) -> list[int]:
        sections = super().sections
        # That is how llama.cpp knows a file of these among those of the models without images.
        if 0 in sections[:2]:
            raise self.rope.parameters.with_fields(mrope_section=sections).refusal(
                "mrope_section", f"but llama.cpp runs {self.arch} only with pairs for time and for rows"
            )
        return sections


class Glm4VText(GlmPositions, Glm4):
    """GLM-4.1V: rope turns neighbouring elements in transformers, halves of a head in llama.cpp."""

    defaults: ClassVar = {
        "vocab_size": 151552,
        "hidden_size": 4096,
        "intermediate_size": 13696,
        "num_hidden_layers": 40,
        "num_attention_heads": 32,
        "num_key_value_heads": 2,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5,
    }
    takes_head_dim = False

    @property
    def query_bias(self) -> bool:
        return True

    @property
    def rotary_dim(self) -> int:
        rotated = rotated_elements(self.config, self.head_dim, 1.0)
        if self.head_dim % rotated:
            raise ArchitectureError(
                f"config.json: 'partial_rotary_factor' turns {rotated} of the {self.head_dim} elements of a head; a "
                "number that divides them expected"
            )
        return rotated

    def rotary_rows(self, heads: int) -> RowMap:
        """Rows of a query or key projection, reordered from rotated neighbours to rotated halves.

        Those that are not rotated change places alike; queries and keys agree on it, so that their products are the
        same.
        """
        rotated = self.rotary_dim
        return RowMap(0, ((heads * self.head_dim // rotated, rotated), (2, 1), (rotated // 2, 2)))


class GlmOcrText(Glm4VText):
    """GLM-OCR: heads of any length, no biases."""

    defaults: ClassVar = {
        "vocab_size": 59392,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "hidden_act": "silu",
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
    }
    takes_head_dim = True

    @property
    def query_bias(self) -> bool:
        return False


class Glm4VMoeText(GlmPositions, Glm4Moe):
    """GLM-4.5V: rope turns halves of a head on both sides."""

    defaults: ClassVar = {
        **{name: value for name, value in Glm4Moe.defaults.items() if name != "use_qk_norm"},
        "vocab_size": 151424,
        "hidden_size": 4096,
        "intermediate_size": 10944,
        "num_hidden_layers": 46,
        "num_attention_heads": 96,
        "max_position_embeddings": 65536,
        "attention_bias": True,
    }
