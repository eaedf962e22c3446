"""Gemma 3: norms on each query and key head, a rope of its own for layers with a window, no cap on attention."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.families.gemma.gemma2 import Gemma2
from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.parts.rope import Rope
from converter.architectures.parts.windows import FULL, WINDOW
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, float32

#: For each layer type the field and the default of its rope's base.
BASES = {FULL: ("rope_theta", 1e6), WINDOW: ("rope_local_base_freq", 1e4)}


class Gemma3(Gemma2):
    classes = ("Gemma3ForCausalLM",)
    arch = "gemma3"
    in_transformers: ClassVar = {"gemma3_text": LINEAR_BY_NAME}
    defaults: ClassVar = {
        "vocab_size": 262208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "tie_word_embeddings": True,
    }
    skipped: ClassVar[tuple[str, ...]] = COMPUTED_BUFFERS
    norms_heads = True
    layers_of_27b: ClassVar[int | None] = 62

    @property
    def period(self) -> int:
        """Older files give the pattern by a number."""
        return self.config.integer("sliding_window_pattern") if "sliding_window_pattern" in self.config else 6

    def rope_of(self, layer_type: str) -> Rope:
        """The rope of a layer type in ``rope_parameters``, otherwise as files had it before transformers 5: the scaling
        is that of layers without a window, and each has a field for its base."""
        name, usual = BASES[layer_type]
        base = self.config.optional_positive(name)
        parameters = self.config.section("rope_parameters").section(layer_type)
        older = self.config.section("rope_scaling")
        if layer_type == FULL and any(older):
            parameters = older
        return Rope.of(self.config.with_fields(rope_theta=usual if base is None else base), parameters)

    @property
    def rope(self) -> Rope:
        """The rope of layers without a window."""
        return self.scaled(FULL, "default", "linear")

    @property
    def window_rope(self) -> Rope:
        return self.scaled(WINDOW, "default")

    @property
    def ropes(self) -> tuple[Rope, ...]:
        return (self.rope, self.window_rope) if any(self.windows) else (self.rope,)

    def scaled(self, layer_type: str, *allowed: str) -> Rope:
        rope = self.rope_of(layer_type)
        if rope.scaling not in allowed:
            raise ArchitectureError(
                f"config.json: rope scaling of {layer_type} is {rope.scaling!r}, but llama.cpp runs {self.arch} only "
                f"with {' or '.join(allowed)}"
            )
        return rope

    def window_key_values(self) -> list[KeyValue]:
        if not any(self.windows):
            return []
        return [*super().window_key_values(), float32(f"{self.arch}.rope.freq_base_swa", self.window_rope.theta)]

    def cap_key_values(self) -> list[KeyValue]:
        self.config.one_of("attn_logit_softcapping", None)
        if "final_logit_softcapping" not in self.config:
            return []
        cap = self.config.number("final_logit_softcapping")
        return [float32(f"{self.arch}.final_logit_softcapping", cap)]

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        yield from self.own_or_tied(shape)
