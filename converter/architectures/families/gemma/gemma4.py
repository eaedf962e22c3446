"""Gemma 4: heads of two lengths, layers that reuse the keys and values of others, embeddings for each layer, experts.

Layers without a window have longer heads, of which rope turns a share, and may take their keys for values. The last
``num_kv_shared_layers`` layers have no keys and values of their own. Norms multiply by their weight alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.families.gemma.gemma3 import Gemma3
from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.layer import Layer, Names
from converter.architectures.parts.experts import LENGTH, Mixture, expert_names, gated_projections
from converter.architectures.parts.rope import Rope, scaling_of
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, array, float32, uint32

#: What the frequency of a pair that is not rotated is divided by, so that its angle is nothing.
UNROTATED = 1e30

#: What layers without a window may have of their own.
OF_LAYER = ("head_dim", "num_key_value_heads")


class Gemma4(Gemma3):
    classes = ("Gemma4ForCausalLM",)
    arch = "gemma4"
    defaults: ClassVar = {
        "vocab_size": 262144,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 30,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "sliding_window": 512,
        "tie_word_embeddings": True,
        "vocab_size_per_layer_input": 262144,
        "hidden_size_per_layer_input": 256,
        "num_kv_shared_layers": 0,
        "global_head_dim": 512,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0},
        },
    }
    names: ClassVar[Names] = {
        **Gemma3.names,
        "per_layer_token_embd": "model.embed_tokens_per_layer",
        "per_layer_model_proj": "model.per_layer_model_projection",
        "per_layer_proj_norm": "model.per_layer_projection_norm",
        "ffn_gate_inp": "router.proj",
        **expert_names("experts"),
        "pre_ffw_norm_2": "pre_feedforward_layernorm_2",
        "post_ffw_norm_1": "post_feedforward_layernorm_1",
        "post_ffw_norm_2": "post_feedforward_layernorm_2",
        "inp_gate": "per_layer_input_gate",
        "proj": "per_layer_projection",
        "post_norm": "post_per_layer_input_norm",
    }
    norm_operation = None
    mixture_keys = LENGTH

    @property
    def windows(self) -> list[bool]:
        """Which layers attend to a window only; never the last, whatever config.json says, as in transformers."""
        return [*super().windows[:-1], False]

    @property
    def own_layers(self) -> int:
        """How many layers, the first ones, have keys and values of their own.

        Raises:
            ArchitectureError: the others do not take theirs from the last two of these, as llama.cpp makes them.
        """
        shared = self.config.integer("num_kv_shared_layers", 0)
        own = len(self.windows) - shared
        if shared and (own < 2 or self.windows[own - 2 : own] != [True, False]):
            raise ArchitectureError(
                f"config.json: 'num_kv_shared_layers' is {shared}, but llama.cpp runs {self.arch} only with a layer of "
                "'sliding_attention' and then one of 'full_attention' right before the layers that share"
            )
        return own

    def of_layers(self, name: str) -> list[int]:
        """``head_dim`` or ``num_key_value_heads`` of each layer.

        transformers 5 writes what differs into ``per_layer_config``; published files have fields of their own for the
        layers without a window.
        """
        usual, windows = self.config.integer(name), self.windows
        if "per_layer_config" not in self.config:
            return [usual if window else self.without_window(name, usual) for window in windows]
        overrides, values = self.config.section("per_layer_config"), []
        for index in range(len(windows)):
            given = overrides.section(str(index), {name: usual})
            if overrides.says_none(str(index)) or not {*given} <= {*OF_LAYER}:
                raise overrides.refusal(
                    str(index), f"but llama.cpp runs {self.arch} only with {' and '.join(OF_LAYER)} of a layer's own"
                )
            values.append(given.integer(name))
        return values

    def without_window(self, name: str, usual: int) -> int:
        if name == "head_dim":
            return self.config.integer("global_head_dim")
        own = self.config.flag("attention_k_eq_v") and "num_global_key_value_heads" in self.config
        return self.config.integer("num_global_key_value_heads") if own else usual

    @property
    def head_dims(self) -> list[int]:
        """Elements of a head in each layer: one length in layers with a window, one in the others."""
        lengths = self.of_layers("head_dim")
        for window in (True, False):
            found = {length for length, kind in zip(lengths, self.windows, strict=True) if kind == window}
            if len(found) > 1 or any(length % 2 for length in found):
                raise ArchitectureError(
                    f"config.json: 'head_dim' is {' and '.join(map(str, sorted(found)))} in layers "
                    f"{'with' if window else 'without'} a window, but llama.cpp runs {self.arch} only with one even "
                    "length for all of them"
                )
        return lengths

    @property
    def key_heads(self) -> list[int]:
        """Key-value heads of each layer."""
        counts, own = self.of_layers("num_key_value_heads"), self.own_layers
        for index, (count, window) in enumerate(zip(counts, self.windows, strict=True)):
            taken = counts[own - 2 if window else own - 1] if index >= own else count
            if self.heads % count or count != taken:
                raise ArchitectureError(
                    f"config.json: 'num_key_value_heads' of layer {index} is {count}; a divisor of "
                    f"'num_attention_heads' {self.heads} expected, and where keys are shared, as many as they have"
                )
        return counts

    @property
    def feed_forward_lengths(self) -> list[int]:
        """Of each layer; those that share keys may be twice as wide."""
        length, wider = self.config.integer("intermediate_size"), self.config.flag("use_double_wide_mlp")
        return [length * 2 if wider and index >= self.own_layers else length for index in range(len(self.windows))]

    @property
    def embedding_of_layer(self) -> int:
        """Elements that each layer's own embedding of a token has; 0 where there is none."""
        return self.config.integer("hidden_size_per_layer_input", 0)

    @property
    def mixture(self) -> Mixture | None:
        if not self.config.flag("enable_moe_block"):
            return None
        return Mixture.of(self.config, "num_experts", "top_k_experts", "moe_intermediate_size")

    def rope_parameters(self, kind: str, *allowed: str) -> Hyperparameters:
        """What ``rope_parameters`` says of a layer type; ArchitectureError unless its rope is an allowed one."""
        ropes = self.config.section("rope_parameters")
        if kind not in ropes or scaling_of(ropes.section(kind)) not in allowed:
            raise ropes.refusal(
                kind, f"but llama.cpp runs {self.arch} only with 'rope_type' {' or '.join(allowed)} there"
            )
        return ropes.section(kind)

    @property
    def rope(self) -> Rope:
        """The rope of layers without a window; which of its pairs turn, ``factors`` says."""
        parameters = self.rope_parameters("full_attention", "proportional", "default")
        return Rope.of(self.config, parameters.with_fields(rope_type="default"))

    @property
    def window_rope(self) -> Rope:
        return Rope.of(self.config, self.rope_parameters("sliding_attention", "default"))

    def factors(self) -> tuple[float, ...]:
        """What the frequency of each pair of a head without a window is divided by, shape (head_dim / 2,).

        Of a proportional rope only the first pairs turn (transformers, ``_compute_proportional_rope_parameters``).
        """
        rope, head_dim = self.rope, self.head_dims[-1]
        if scaling_of(self.rope_parameters("full_attention", "proportional", "default")) != "proportional":
            return (1.0,) * (head_dim // 2)
        share = rope.number("partial_rotary_factor", 1.0)
        turning = int(min(share, 2.0) * head_dim // 2)
        if not 0 < turning <= head_dim // 2:
            raise rope.parameters.refusal(
                "partial_rotary_factor", f"a share of the {head_dim // 2} pairs of a head expected"
            )
        return (rope.number("factor", 1.0),) * turning + (UNROTATED,) * (head_dim // 2 - turning)

    def key_values(self) -> list[KeyValue]:
        config, arch, windows = self.config, self.arch, self.windows
        config.one_of(self.activation, *self.activations)
        config.one_of("attention_bias", False, None)
        # "vision" lets the tokens of a picture, which a text has none of, see what follows them.
        config.one_of("use_bidirectional_attention", None, "vision")
        if not any(windows):
            raise config.refusal(
                "layer_types",
                f"but llama.cpp runs {arch} only with a layer of 'sliding_attention' among those before the last",
            )
        lengths = {"": self.head_dims[-1], "_swa": self.head_dims[windows.index(True)]}
        return [
            uint32(f"{arch}.block_count", len(windows)),
            uint32(f"{arch}.context_length", config.integer("max_position_embeddings")),
            uint32(f"{arch}.embedding_length", self.embedding_length),
            array(f"{arch}.feed_forward_length", self.feed_forward_lengths, GGUFValueType.INT32),
            uint32(f"{arch}.attention.head_count", self.heads),
            array(f"{arch}.attention.head_count_kv", self.key_heads, GGUFValueType.INT32),
            float32(f"{arch}.rope.freq_base", self.rope.theta),
            self.norm_epsilon,
            uint32(f"{arch}.vocab_size", self.vocab_size),
            *(
                uint32(f"{arch}.attention.{name}_length{kind}", length)
                for kind, length in lengths.items()
                for name in ("key", "value")
            ),
            *(uint32(f"{arch}.rope.dimension_count{kind}", length) for kind, length in lengths.items()),
            *self.window_key_values(),
            uint32(f"{arch}.attention.shared_kv_layers", len(windows) - self.own_layers),
            uint32(f"{arch}.embedding_length_per_layer_input", self.embedding_of_layer),
            *self.cap_key_values(),
            *self.mixture_key_values(),
        ]

    def cap_key_values(self) -> list[KeyValue]:
        # Without the key llama.cpp caps at 30 in this arch.
        cap = self.config.number("final_logit_softcapping") if "final_logit_softcapping" in self.config else 0.0
        return [float32(f"{self.arch}.final_logit_softcapping", cap)]

    def leaves_out(self, source: str) -> bool:
        """Published files hold keys and values even of layers that take those of others."""
        number = self.layer_number(source)
        shared = re.search(r"\.self_attn\.(k_proj|v_proj|k_norm)\.weight$", source)
        return super().leaves_out(source) or bool(shared and number is not None and number >= self.own_layers)

    def frequency_factors(self) -> Iterator[TargetTensor]:
        factors = self.factors()
        yield TargetTensor("rope_freqs.weight", (len(factors),), values=factors)

    def before_layers(self) -> Iterator[TargetTensor]:
        if not self.embedding_of_layer:
            return
        self.config.one_of("vocab_size_per_layer_input", self.vocab_size)
        own = len(self.windows) * self.embedding_of_layer
        for part, shape in (
            ("per_layer_token_embd", (self.vocab_size, own)),
            ("per_layer_model_proj", (own, self.embedding_length)),
        ):
            yield self.tensor(f"{part}.weight", f"{self.source_name(part)}.weight", shape)
        yield from self.norm("per_layer_proj_norm", self.source_name("per_layer_proj_norm"), self.embedding_of_layer)

    def block(self, layer: Layer) -> Iterator[TargetTensor]:
        width, own = self.embedding_length, self.embedding_of_layer
        yield from super().block(layer)
        if own:
            yield from self.projection(layer, "inp_gate", (own, width))
            yield from self.projection(layer, "proj", (width, own))
            yield from self.layer_norm(layer, "post_norm")
        yield self.tensor(f"{layer.target}.layer_output_scale.weight", f"{layer.source}.layer_scalar", (1,))

    def feed_forward(self, layer: Layer) -> Iterator[TargetTensor]:
        """A feed-forward in every layer, and experts beside it."""
        shape, mixture = (self.feed_forward_lengths[layer.number], self.embedding_length), self.mixture
        yield from gated_projections(self, layer, shape)
        if mixture is not None:
            yield from self.experts(layer, mixture)

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        width, head_dim = self.embedding_length, self.head_dims[layer.number]
        query, key = self.heads * head_dim, self.key_heads[layer.number] * head_dim
        has_keys = layer.number < self.own_layers
        has_values = has_keys and (self.windows[layer.number] or not self.config.flag("attention_k_eq_v"))
        yield from self.projection(layer, "attn_q", (query, width))
        if has_keys:
            yield from self.projection(layer, "attn_k", (key, width))
        if has_values:
            yield from self.projection(layer, "attn_v", (key, width))
        yield from self.projection(layer, "attn_output", (width, query))
        for part in ("attn_q_norm", "attn_k_norm")[: 1 + has_keys]:
            yield from self.layer_norm(layer, part, head_dim)

    def experts(self, layer: Layer, mixture: Mixture) -> Iterator[TargetTensor]:
        """Experts beside the feed-forward part, with norms of their own; each expert's output is scaled."""
        width, experts, target = self.embedding_length, mixture.experts, layer.target
        yield from self.projection(layer, "ffn_gate_inp", (experts, width))
        yield self.tensor(f"{target}.ffn_gate_inp.scale", f"{layer.source}.router.scale", (width,))
        gate_up, down = (self.source_name(f"ffn_{name}_exps", layer) for name in ("gate", "down"))
        if gate_up in self.sources:
            shapes = ((experts, 2 * mixture.length, width), (experts, width, mixture.length))
            yield self.tensor(f"{target}.ffn_gate_up_exps.weight", gate_up, shapes[0])
            yield self.tensor(f"{target}.ffn_down_exps.weight", down, shapes[1])
        else:
            yield from self.stacks(layer, mixture)
        yield self.tensor(f"{target}.ffn_down_exps.scale", f"{layer.source}.router.per_expert_scale", (experts,))
        for part in ("pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"):
            yield from self.layer_norm(layer, part)


class Gemma4Unified(Gemma4):
    """The models whose pictures and sound need no encoder: no embeddings for each layer, no experts."""

    classes = ("Gemma4UnifiedForCausalLM",)
    defaults: ClassVar = {
        **{name: value for name, value in Gemma4.defaults.items() if not name.endswith("per_layer_input")},
        "max_position_embeddings": 262144,
        "sliding_window": 1024,
    }
    embedding_of_layer = 0
    mixture = None
