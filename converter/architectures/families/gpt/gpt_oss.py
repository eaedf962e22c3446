"""GPT-OSS: a mixture of experts with biases, attention sinks, sliding windows in every other layer, yarn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.facts import InTransformers
from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.layer import Layer
from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.experts import LENGTH, Mixture
from converter.architectures.parts.rope import Rope, rope_section
from converter.architectures.target import Piece, RowMap, TargetTensor
from converter.gguf.key_values import KeyValue, array, uint32

#: transformers' rope where config.json has none.
USUAL_ROPE = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}


class GptOss(Decoder):
    classes = ("GptOssForCausalLM",)
    arch = "gpt-oss"
    in_transformers: ClassVar = {"gpt_oss": InTransformers(linear_by_name=True, transposed_experts=True)}
    defaults: ClassVar = {
        "attention_bias": True,
        "head_dim": 64,
        "hidden_act": "silu",
        "max_position_embeddings": 131072,
        "num_experts_per_tok": 4,
        "num_key_value_heads": 8,
        "num_local_experts": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 150000.0,
        "sliding_window": 128,
        "swiglu_alpha": 1.702,
        "swiglu_limit": 7.0,
    }
    aliases: ClassVar = {"num_experts": "num_local_experts"}
    names: ClassVar = {
        **Decoder.names,
        "post_attention_norm": "post_attention_layernorm",
        "ffn_gate_inp": "mlp.router",
    }
    layout = ("attn_norm", "attention", "post_attention_norm", "feed_forward")
    zero_biases = ("attn_output",)
    mixture_keys = LENGTH
    rotates_neighbours = False
    takes_frequency_factors = False
    needs_output = True

    @property
    def rope_fields(self) -> Hyperparameters:
        given = rope_section(self.config)
        return given if any(given) else Hyperparameters(USUAL_ROPE)

    @property
    def rope(self) -> Rope:
        """The rope as llama.cpp runs it, which rounds yarn's range of frequencies."""
        return Rope.of(self.config, self.rope_fields.with_fields(truncate=True))

    def warnings(self) -> list[str]:
        if self.rope.scaling != "yarn" or self.rope_fields.optional_flag("truncate") is not False:
            return super().warnings()
        return [
            *super().warnings(),
            "the model's yarn does not round the range of frequencies it scales, llama.cpp's does: predictions differ "
            "a little from transformers'",
        ]

    @property
    def windows(self) -> list[bool]:
        """Which layers attend to a window only."""
        layers, kinds = self.config.integer("num_hidden_layers"), ("sliding_attention", "full_attention")
        usual = [kinds[index % 2] for index in range(layers)]
        return [kind == "sliding_attention" for kind in self.config.layer_types(layers, usual, kinds)]

    @property
    def mixture(self) -> Mixture:
        return Mixture.of(self.config, "num_local_experts", "num_experts_per_tok", "intermediate_size")

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("swiglu_alpha", 1.702)
        self.config.one_of("swiglu_limit", 7.0)
        prefix = f"{self.arch}.attention.sliding_window"
        return [
            *super().key_values(),
            *self.mixture_key_values(),
            uint32(prefix, self.config.integer("sliding_window")),
            array(f"{prefix}_pattern", self.windows, GGUFValueType.BOOL),
        ]

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        yield from super().attention(layer)
        yield self.tensor(f"{layer.target}.attn_sinks.weight", f"{layer.source}.self_attn.sinks", (self.heads,))

    def experts(self, layer: Layer, mixture: Mixture) -> Iterator[TargetTensor]:
        experts, width, inner = mixture.experts, self.embedding_length, mixture.length
        gate_up, down = (f"{layer.source}.mlp.experts.{name}" for name in ("gate_up_proj", "down_proj"))
        yield from self.projection(layer, "ffn_gate_inp", (experts, width), bias=True)
        # Gate and up alternate: element 2j of a gate-and-up belongs to the gate, 2j + 1 to the other.
        for projection, first in (("gate", 0), ("up", 1)):
            name = f"{layer.target}.ffn_{projection}_exps"
            yield self.stack(
                f"{name}.weight", gate_up, (experts, inner, width), RowMap(first, ((inner, 2),)), 2 * inner
            )
            self.source(f"{gate_up}_bias", (experts, 2 * inner))
            every_other = RowMap(first, ((experts, 2 * inner), (inner, 2)))
            yield TargetTensor(f"{name}.bias", (experts, inner), (Piece(f"{gate_up}_bias", every_other),))
        name = f"{layer.target}.ffn_down_exps"
        yield self.stack(f"{name}.weight", down, (experts, width, inner), RowMap(0, ((width, 1),)), width)
        yield self.tensor(f"{name}.bias", f"{down}_bias", (experts, width))

    def stack(self, target: str, source: str, shape: tuple[int, int, int], rows: RowMap, height: int) -> TargetTensor:
        """Experts' matrices (experts, out, in), whose rows are some of the ``height`` that the source has for each.

        Quantized checkpoints hold them as (experts, out, in) under ``{source}.weight``, others transposed, as
        (experts, in, out).
        """
        experts, _, length = shape
        plain = f"{source}.weight"
        if plain in self.sources:
            self.source(plain, (experts, height, length))
            return TargetTensor(target, shape, (Piece(plain, RowMap(rows.offset, ((experts, height), *rows.loops))),))
        self.source(source, (experts, length, height))
        pieces = (Piece(source, rows, transposed=True, within=(expert * length, length)) for expert in range(experts))
        return TargetTensor(target, shape, tuple(pieces))
