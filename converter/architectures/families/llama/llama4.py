"""Llama 4: layers with experts among dense ones, every fourth layer without rope, attention in chunks in the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.layer import Layer, Names
from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.experts import LENGTH, Mixture, expert_counts, expert_names, gated_names
from converter.architectures.target import Piece, TargetTensor, row_run
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, array

#: llama.cpp has no field for queries' and keys' norm: it has it, but for as many experts as Maverick's.
EXPERTS_WITHOUT_NORMS = 128


class Llama4(Decoder):
    """The text model alone."""

    classes = ("Llama4ForCausalLM",)
    arch = "llama4"
    defaults: ClassVar = {
        "vocab_size": 202048,
        "hidden_size": 5120,
        "intermediate_size": 8192,
        "intermediate_size_mlp": 16384,
        "num_hidden_layers": 48,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "hidden_act": "silu",
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "num_experts_per_tok": 1,
        "num_local_experts": 16,
        "interleave_moe_layer_step": 1,
        "use_qk_norm": True,
        "no_rope_layer_interval": 4,
        "attention_chunk_size": 8192,
        "attn_temperature_tuning": True,
        "floor_scale": 8192,
        "attn_scale": 0.1,
        "rope_theta": 500000.0,
    }
    names: ClassVar[Names] = {
        **Decoder.names,
        **gated_names("feed_forward"),
        "ffn_gate_inp": "feed_forward.router",
        **expert_names("feed_forward.experts"),
        **gated_names("feed_forward.shared_expert", "_shexp"),
    }
    mixture_keys = (*LENGTH, "interleave_moe_layer_step")
    # Neighbours rotate in transformers too.
    rotates_neighbours = False

    @property
    def feed_forward_length(self) -> int:
        return self.config.integer("intermediate_size_mlp")

    @property
    def expert_step(self) -> int:
        """Every how many layers one has experts, the last of as many; 0 where none has.

        Raises:
            ArchitectureError: ``moe_layers`` lists others.
        """
        layers, field = self.config.integer("num_hidden_layers"), "moe_layers"
        if field not in self.config:
            return self.config.integer("interleave_moe_layer_step")
        listed = self.config.integers(field)
        step = listed[0] + 1 if listed else 0
        if listed != (list(range(step - 1, layers, step)) if step else []):
            raise self.config.refusal(
                field,
                f"but llama.cpp runs {self.arch} only with experts in every layer, every second, every third and so on "
                f"of {layers}",
            )
        return step

    @property
    def mixture(self) -> Mixture:
        """llama.cpp wants one expert at least, even where no layer has any."""
        step, length = self.expert_step, self.config.integer("intermediate_size")
        counts = expert_counts(self.config, "num_local_experts", "num_experts_per_tok") if step else (1, 1)
        with_experts = [bool(step) and (number + 1) % step == 0 for number in range(len(self.kinds))]
        return Mixture(*counts, length, layers=with_experts, step=step, shared_length=length)

    @property
    def layers_with_rope(self) -> list[int]:
        """1 for each layer with rope, 0 for the others; ArchitectureError where they are not llama.cpp's."""
        layers = self.config.integer("num_hidden_layers")
        runs = [int((layer + 1) % 4 != 0) for layer in range(layers)]
        field = "no_rope_layers"
        if field in self.config and self.config.integers(field):
            self.config.one_of(field, runs)
        else:
            self.config.one_of("no_rope_layer_interval", 4)
        return runs

    @property
    def chunked(self) -> list[bool]:
        """Which layers attend within a chunk only."""
        kinds = ("full_attention", "chunked_attention")
        usual = [kinds[rope] for rope in self.layers_with_rope]
        layer_types = self.config.layer_types(len(usual), usual, kinds)
        return [kind == "chunked_attention" for kind in layer_types]

    def key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        # llama.cpp's chunks and temperatures have no keys of their own. The first files say 4 for true.
        config.one_of("attention_chunk_size", 8192)
        config.one_of("attn_temperature_tuning", True, 4)
        config.one_of("floor_scale", 8192)
        config.one_of("attn_scale", 0.1)
        config.one_of("attention_bias", False)
        experts = self.mixture.experts
        norms = experts != EXPERTS_WITHOUT_NORMS
        if config.flag("use_qk_norm") is not norms:
            raise ArchitectureError(
                f"config.json: 'use_qk_norm' is {not norms}, but llama.cpp runs {arch} of {experts} experts only "
                f"with {norms}"
            )
        return [
            *super().key_values(),
            *self.mixture_key_values(),
            array(f"{arch}.attention.sliding_window_pattern", self.chunked, GGUFValueType.BOOL),
        ]

    def stacks(self, layer: Layer, mixture: Mixture) -> Iterator[TargetTensor]:
        """Stacked experts are transposed, gate and up side by side: (experts, width, 2 × inner) and (experts, inner,
        width); quantized checkpoints have one matrix for each expert and projection."""
        experts, inner, width = mixture.experts, mixture.length, self.embedding_length
        gate_up, down = (self.source_name(f"ffn_{name}_exps", layer) for name in ("gate", "down"))
        if gate_up not in self.sources:
            yield from super().stacks(layer, mixture)
            return
        self.source(gate_up, (experts, width, 2 * inner))
        self.source(down, (experts, inner, width))
        for projection, name, first, rows, length in (
            ("gate", gate_up, 0, inner, width),
            ("up", gate_up, inner, inner, width),
            ("down", down, 0, width, inner),
        ):
            pieces = tuple(
                Piece(name, row_run(first, rows), transposed=True, within=(expert * length, length))
                for expert in range(experts)
            )
            yield TargetTensor(f"{layer.target}.ffn_{projection}_exps.weight", (experts, rows, length), pieces)
