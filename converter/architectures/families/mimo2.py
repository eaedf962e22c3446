"""MiMo V2 Flash: windows with attention sinks, shorter values than keys, experts behind a dense first layer.

Layers with a window have twice the key heads, a rope base of their own and a sink for each head; llama.cpp finds sinks
and experts by their tensors, so they may be in any layer. What the model multiplies values by, llama.cpp
multiplies the attention's output by (``attention.value_scale``).

The published config.json says much of this by lists and ``swa_…`` fields of its own, which are read where transformers'
fields are absent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

from gguf import GGUFValueType

from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.layer import Layer
from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.experts import CHOICE, LENGTH, Mixture, sigmoid_choice
from converter.architectures.parts.rope import Rope, rotated_share
from converter.architectures.parts.windows import windowed
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, array, float32, uint32

FULL, WINDOWED = "full_attention", "sliding_attention"

#: transformers' ropes, and the published fields of their bases.
ROPES = {FULL: (5e6, "rope_theta"), WINDOWED: (1e4, "swa_rope_theta")}

#: Share of a head that transformers rotates where config.json has none.
ROTATED = 0.334

#: Fields of the published config.json with the only value that transformers and llama.cpp both run.
FIXED = {
    "attention_bias": False,
    "add_full_attention_sink_bias": False,
    "add_swa_attention_sink_bias": True,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "n_shared_experts": None,
    "rope_scaling": None,
}


class MiMoV2Flash(Decoder):
    classes = ("MiMoV2FlashForCausalLM",)
    arch = "mimo2"
    defaults: ClassVar[dict[str, Any]] = {
        "vocab_size": 152576,
        "hidden_size": 4096,
        "intermediate_size": 16384,
        "num_hidden_layers": 48,
        "num_attention_heads": 64,
        "num_key_value_heads": 4,
        "hidden_act": "silu",
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "moe_intermediate_size": 2048,
        "num_experts_per_tok": 8,
        "n_routed_experts": 256,
        "routed_scaling_factor": 1.0,
        "n_group": 1,
        "topk_group": 1,
        "norm_topk_prob": True,
        "head_dim": 192,
        "v_head_dim": 128,
        "sliding_window": 129,
        "attention_value_scale": 0.707,
    }
    aliases: ClassVar = {"layernorm_epsilon": "rms_norm_eps"}
    #: Published names, where they differ, and transformers'.
    names: ClassVar = {
        **Decoder.names,
        "attn_sinks": ("self_attn.attention_sink_bias", "self_attn.sinks"),
        "exp_probs_b": "mlp.gate.e_score_correction_bias",
    }
    mixture_keys = (*LENGTH, *CHOICE)
    #: Layers that predict several tokens ahead; transformers does not run them either.
    skipped: ClassVar[tuple[str, ...]] = (*COMPUTED_BUFFERS, r"model\.mtp\..*")
    rotates_neighbours = False
    takes_frequency_factors = False
    needs_output = True

    def by_layer(self, field: str, published: str, usual: list[bool], names: tuple[str, str]) -> list[bool]:
        """For each layer whether ``field`` names the second of two kinds, or a list of 0 and 1 has 1.

        Raises:
            ArchitectureError: it is no such list.
        """
        kinds = self.config.by_layer(field, len(self.kinds), names)
        if kinds is not None:
            return [kind == names[1] for kind in kinds]
        marks = self.config.by_layer(published, len(self.kinds), (0, 1))
        return usual if marks is None else [mark == 1 for mark in marks]

    @cached_property
    def windows(self) -> list[bool]:
        """Which layers attend to a window only."""
        usual = [index > 0 and (index + 1) % 6 > 0 for index in range(len(self.kinds))]
        return self.by_layer("layer_types", "hybrid_layer_pattern", usual, (FULL, WINDOWED))

    @cached_property
    def with_experts(self) -> list[bool]:
        usual = [index > 0 for index in range(len(self.kinds))]
        return self.by_layer("mlp_layer_types", "moe_layer_freq", usual, ("dense", "sparse"))

    @property
    def key_heads(self) -> list[int]:
        """Key and value heads of each layer."""
        return [2 * self.kv_heads if windowed else self.kv_heads for windowed in self.windows]

    @property
    def value_dim(self) -> int:
        """Elements of a value's head."""
        return self.config.integer("v_head_dim")

    @property
    def value_scale(self) -> float:
        """What values are multiplied by; 1 where config.json says null."""
        field = "attention_value_scale"
        return 1.0 if self.config.says_none(field) else self.config.positive(field)

    @property
    def window(self) -> int:
        """Tokens that a windowed layer attends to, with the current one, which the published number leaves out."""
        if "sliding_window_size" in self.config:
            return self.config.integer("sliding_window_size") + 1
        return self.config.integer("sliding_window")

    def rope_fields(self, layer_type: str) -> Hyperparameters:
        """Parameters of a layer type's rope: those in ``rope_parameters``, or the published ones."""
        parameters = self.config.section("rope_parameters")
        if any(parameters):
            if layer_type not in parameters:
                raise self.config.refusal(
                    "rope_parameters", f"an object with one for {FULL} and one for {WINDOWED} expected"
                )
            return parameters.section(layer_type)
        base, field = ROPES[layer_type]
        given = self.config.optional_positive(field)
        return Hyperparameters({"rope_theta": base if given is None else given})

    def rope_of(self, layer_type: str) -> Rope:
        rope = Rope.of(self.config, self.rope_fields(layer_type))
        if rope.scaling != "default":
            raise ArchitectureError(
                f"config.json: rope scaling of {layer_type} is {rope.scaling!r}, but llama.cpp runs {self.arch} as "
                "transformers does only with 'default'"
            )
        return rope

    @property
    def rope(self) -> Rope:
        return self.rope_of(FULL)

    @property
    def ropes(self) -> tuple[Rope, ...]:
        return tuple(self.rope_of(kind) for kind in (FULL, WINDOWED))

    @property
    def rotary_dim(self) -> int:
        full, windowed = (
            rotated_share(self.head_dim, self.rope_fields(kind), self.config, default=ROTATED)
            for kind in (FULL, WINDOWED)
        )
        if full != windowed:
            raise ArchitectureError(
                f"config.json: rope rotates {full} elements of a head in {FULL}, {windowed} in {WINDOWED}, but "
                f"llama.cpp runs {self.arch} only with as many in both"
            )
        return full

    @property
    def mixture(self) -> Mixture:
        fields = ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size")
        mixture = Mixture.of(self.config, *fields, layers=self.with_experts)
        return replace(mixture, **sigmoid_choice(self.config, mixture.experts))

    def check(self) -> None:
        """Refuse what llama.cpp, or transformers, has no other value for.

        Raises:
            ArchitectureError: naming the field.
        """
        config, heads = self.config, self.heads
        for field, value in FIXED.items():
            config.one_of(field, *dict.fromkeys((value, None)))
        config.one_of("routed_scaling_factor", 1.0)
        config.one_of("norm_topk_prob", True)
        for field, value in (
            ("swa_num_attention_heads", heads),
            ("swa_num_key_value_heads", 2 * self.kv_heads),
            ("swa_head_dim", self.head_dim),
            ("swa_v_head_dim", self.value_dim),
        ):
            config.one_of(field, value, None)
        if heads % (2 * self.kv_heads):
            raise ArchitectureError(
                f"config.json: 'num_attention_heads' is {heads}, no multiple of the {2 * self.kv_heads} key heads of "
                "layers with a window, twice 'num_key_value_heads'"
            )
        windowed(self.arch, [WINDOWED if window else FULL for window in self.windows])

    def key_values(self) -> list[KeyValue]:
        arch = self.arch
        self.check()
        key = f"{arch}.attention.head_count_kv"
        key_heads = array(key, self.key_heads, GGUFValueType.INT32)
        window = f"{arch}.attention.sliding_window"
        return [
            *(key_heads if pair.key == key else pair for pair in super().key_values()),
            float32(f"{arch}.attention.value_scale", self.value_scale),
            uint32(window, self.window),
            array(f"{window}_pattern", self.windows, GGUFValueType.BOOL),
            float32(f"{arch}.rope.freq_base_swa", self.rope_of(WINDOWED).theta),
            *self.mixture_key_values(),
        ]

    def head_key_values(self) -> list[KeyValue]:
        value_length = uint32(f"{self.arch}.attention.value_length", self.value_dim)
        return [value_length if pair.key == value_length.key else pair for pair in super().head_key_values()]

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        width, queries, keys = self.embedding_length, self.heads, self.key_heads[layer.number]
        for part, rows in (
            ("attn_q", queries * self.head_dim),
            ("attn_k", keys * self.head_dim),
            ("attn_v", keys * self.value_dim),
        ):
            yield from self.projection(layer, part, (rows, width))
        yield from self.projection(layer, "attn_output", (width, queries * self.value_dim))
        if self.windows[layer.number]:
            yield self.tensor(f"{layer.target}.attn_sinks.weight", self.source_name("attn_sinks", layer), (queries,))
