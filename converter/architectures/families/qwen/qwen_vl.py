"""The text models of Qwen2-VL, Qwen2.5-VL, Qwen3-VL and its mixture: Qwen's with positions of three numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.families.qwen.qwen2 import Qwen2
from converter.architectures.families.qwen.qwen3 import Qwen3
from converter.architectures.families.qwen.qwen_moe import Qwen3Moe
from converter.architectures.layer import Layer
from converter.architectures.parts.experts import Mixture
from converter.architectures.parts.three_positions import ThreePositions
from converter.architectures.target import Piece, RowMap, TargetTensor, row_run
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, uint32


class Qwen2VLText(ThreePositions, Qwen2):
    """The first pairs are time's, then come the rows', then the columns'."""

    arch = "qwen2vl"
    defaults: ClassVar = {
        "vocab_size": 152064,
        "hidden_size": 8192,
        "intermediate_size": 29568,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5,
        "sliding_window": 4096,
        "max_window_layers": 80,
        "rope_theta": 1e6,
    }

    def key_values(self) -> list[KeyValue]:
        epsilon = self.config.number("rms_norm_eps")
        if epsilon > 1e-5:
            raise ArchitectureError(
                f"config.json: 'rms_norm_eps' is {epsilon}, but llama.cpp's {self.arch} divides by the root alone; at "
                "most 1e-05 expected"
            )
        return super().key_values()


class Qwen3VLText(ThreePositions, Qwen3):
    """Time, row and column take turns at the pairs; those left at the end are time's."""

    arch = "qwen3vl"
    usual_sections = (24, 20, 20)
    defaults: ClassVar = {
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "hidden_act": "silu",
        "max_position_embeddings": 128000,
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "rope_theta": 500000.0,
    }

    @property
    def deepstack_layers(self) -> int:
        """How many of the first layers an image's tokens are added to once more; transformers' default is three."""
        vision, field = self.config.section("vision_config", path="vision_config."), "deepstack_visual_indexes"
        indexes = vision.integers(field) if field in vision else [8, 16, 24]
        if len(indexes) > self.config.integer("num_hidden_layers"):
            raise vision.with_fields(**{field: indexes}).refusal(
                field, "a list of at most num_hidden_layers layers expected"
            )
        return len(indexes)

    @property
    def largest_omission(self) -> float:
        """How far the context's last token turns the fastest of the pairs that llama.cpp leaves unturned, in radians.

        It turns pair i by number i mod 3 where i < 3 × that number's section, others by the fourth number, zero for a
        text's tokens; transformers turns those by time. With the published (24, 20, 20) they are pairs 61 and 62.
        """
        sections, rope, pairs = self.sections, self.rope, self.rotary_dim // 2
        unturned = [pair for pair in range(pairs) if pair >= 3 * sections[pair % 3]]
        context = self.config.integer("max_position_embeddings")
        return max((context * rope.theta ** (-pair / pairs) for pair in unturned), default=0.0)

    def key_values(self) -> list[KeyValue]:
        if self.largest_omission >= 1:
            raise self.rope.parameters.with_fields(mrope_section=self.sections).refusal(
                "mrope_section",
                f"of which llama.cpp leaves a pair unturned that turns by {self.largest_omission:.1f} radians over the "
                "context; less than 1 expected",
            )
        return [*super().key_values(), uint32(f"{self.arch}.n_deepstack_layers", self.deepstack_layers)]

    def warnings(self) -> list[str]:
        warnings, omission = super().warnings(), self.largest_omission
        if omission:
            warnings.append(
                f"llama.cpp leaves the last pairs of a head unturned, off by at most {omission:.2g} radians at the end "
                "of the context"
            )
        return warnings


class Qwen3VLMoeText(Qwen3VLText, Qwen3Moe):
    """Experts lie in one tensor, transposed in the published files and as they are applied in others."""

    arch = "qwen3vlmoe"
    defaults: ClassVar = {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "hidden_act": "silu",
        "max_position_embeddings": 128000,
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "rope_theta": 500000.0,
        "num_local_experts": 60,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 1408,
        "decoder_sparse_step": 1,
        # transformers' class divides by the sum whatever the field says.
        "norm_topk_prob": True,
    }

    def stacks(self, layer: Layer, mixture: Mixture) -> Iterator[TargetTensor]:
        experts, width, inner = mixture.experts, self.embedding_length, mixture.length
        gate_up, down = (self.source_name(f"ffn_{name}_exps", layer) for name in ("gate", "down"))
        target = f"{layer.target}.ffn"
        yield self.stack(f"{target}_gate_exps.weight", gate_up, (experts, inner, width), 0, 2 * inner)
        yield self.stack(f"{target}_up_exps.weight", gate_up, (experts, inner, width), inner, 2 * inner)
        yield self.stack(f"{target}_down_exps.weight", down, (experts, width, inner), 0, width)

    def stack(self, target: str, source: str, shape: tuple[int, int, int], first: int, height: int) -> TargetTensor:
        """Experts' matrices of that shape, (experts, out, in), from row ``first`` of the ``height`` of each."""
        experts, rows, length = shape
        # The published shape is the other way round; where both are the same, transformers transposes nothing.
        if self.source(source, None).shape == (experts, height, length):
            return TargetTensor(target, shape, (Piece(source, RowMap(first, ((experts, height), (rows, 1)))),))
        self.source(source, (experts, length, height))
        run = row_run(first, rows)
        pieces = (Piece(source, run, transposed=True, within=(expert * length, length)) for expert in range(experts))
        return TargetTensor(target, shape, tuple(pieces))
