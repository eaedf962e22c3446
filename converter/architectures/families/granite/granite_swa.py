"""Granite with sliding windows: a sink for each head, windows in some layers, rope in some; dense or with experts.

A sink is one more logit in an attention's softmax that brings no value along. Which layers have windows stands in
``layer_types``, which have rope in ``layer_rope_theta``: its base for each layer, 0 for a layer without rope.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.families.granite.granite import Granite, GraniteMoeShared
from converter.architectures.layer import Layer
from converter.architectures.parts.experts import Mixture, parameter
from converter.architectures.parts.rope import Rope
from converter.architectures.parts.windows import FULL, WINDOW, windowed
from converter.architectures.target import TargetTensor
from converter.gguf.key_values import KeyValue, array, uint32


class GraniteSWA(Granite):
    classes = ("GraniteSWAForCausalLM",)
    arch = "granite_swa"
    defaults: ClassVar = {
        **Granite.defaults,
        "max_position_embeddings": 8192,
        "num_attention_heads": 20,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-5,
        "sliding_window": 128,
        "tie_word_embeddings": True,
    }

    @property
    def windows(self) -> list[bool]:
        """Which layers attend to a window only; all but each fourth, from the first on, where config.json is silent.

        Raises:
            ArchitectureError: ``layer_types`` is no list of these, or none has a window.
        """
        layers = self.config.integer("num_hidden_layers")
        usual = [WINDOW if index % 4 else FULL for index in range(layers)]
        return windowed(self.arch, self.config.layer_types(layers, usual, (FULL, WINDOW)))

    @property
    def bases(self) -> list[float]:
        """Rope's base in each layer; 0 in one without rope.

        Raises:
            ArchitectureError: ``layer_rope_theta`` is no such list, has two bases or none, or ``no_rope_layers``, by
                which other tools know the layers with rope (1) from those without (0), says otherwise.
        """
        config = self.config
        layers = config.integer("num_hidden_layers")
        field = "layer_rope_theta"
        bases = config.numbers(field, layers) if field in config else [super().rope.theta] * layers
        # Where no layer has a rope, llama.cpp ends its process over the positions that nothing reads.
        if min(bases) < 0 or len(set(bases) - {0}) != 1:
            raise config.refusal(
                field,
                f"but llama.cpp runs {self.arch} only with a list of {layers} numbers, each the same base or 0, not "
                "all 0",
            )
        marks = config.by_layer("no_rope_layers", layers, (0, 1))
        if marks is not None and marks != [int(base > 0) for base in bases]:
            raise config.refusal(
                "no_rope_layers",
                f"but the model's rope has the bases {bases!r}; remove it or let both say the same (1 for a layer with "
                "rope)",
            )
        return bases

    @property
    def rope(self) -> Rope:
        return replace(super().rope, theta=max(self.bases))

    def key_values(self) -> list[KeyValue]:
        prefix = f"{self.arch}.attention"
        return [
            *super().key_values(),
            uint32(f"{prefix}.sliding_window", self.config.integer("sliding_window")),
            array(f"{prefix}.sliding_window_pattern", self.windows, GGUFValueType.BOOL),
            array(f"{prefix}.rope_pattern", [base > 0 for base in self.bases], GGUFValueType.BOOL),
        ]

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        yield from super().attention(layer)
        yield self.tensor(f"{layer.target}.attn_sinks.weight", f"{layer.source}.self_attn.sinks", (self.heads,))


class GraniteMoeSWA(GraniteSWA, GraniteMoeShared):
    """The same with experts; llama.cpp wants gate and up projections in one tensor, as the checkpoint has them."""

    classes = ("GraniteMoeSWAForCausalLM",)
    defaults: ClassVar = {**GraniteMoeShared.defaults, "sliding_window": 128}

    def stacks(self, layer: Layer, mixture: Mixture) -> Iterator[TargetTensor]:
        experts, inner, width = mixture.experts, mixture.length, self.embedding_length
        for part, source, shape in (
            ("gate_up", "ffn_up_exps", (experts, 2 * inner, width)),
            ("down", "ffn_down_exps", (experts, width, inner)),
        ):
            name = parameter(self, self.source_name(source, layer))
            yield self.tensor(f"{layer.target}.ffn_{part}_exps.weight", name, shape)

    def shared_experts(self, layer: Layer, mixture: Mixture) -> Iterator[TargetTensor]:
        width, length = self.embedding_length, mixture.shared_length
        if length:
            yield from self.projection(layer, "ffn_up_shexp", (2 * length, width))
            yield from self.projection(layer, "ffn_down_shexp", (width, length))
