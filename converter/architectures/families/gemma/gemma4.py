"""Gemma 4: heads of two lengths, layers that reuse the keys and values of others, embeddings for each layer, experts.

Layers without a window have longer heads, of which rope turns a share, and may take their keys for values. The last
``num_kv_shared_layers`` layers have no keys and values of their own. Norms multiply by their weight alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.families.gemma.gemma3 import Gemma3, Gemma3Multimodal
from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.parts.experts import expert_counts, expert_key_values, expert_stacks
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
    def experts(self) -> tuple[int, int] | None:
        """How many experts there are and how many each token uses; None without."""
        if not self.config.flag("enable_moe_block"):
            return None
        return expert_counts(self.config, "num_experts", "top_k_experts")

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
            *self.expert_key_values(),
        ]

    def cap_key_values(self) -> list[KeyValue]:
        # Without the key llama.cpp caps at 30 in this arch.
        cap = self.config.number("final_logit_softcapping") if "final_logit_softcapping" in self.config else 0.0
        return [float32(f"{self.arch}.final_logit_softcapping", cap)]

    def expert_key_values(self) -> list[KeyValue]:
        if self.experts is None:
            return []
        length = uint32(f"{self.arch}.expert_feed_forward_length", self.config.integer("moe_intermediate_size"))
        return [*expert_key_values(self.arch, self.experts), length]

    def leaves_out(self, source: str) -> bool:
        """Published files hold keys and values even of layers that take those of others."""
        of_layer = re.fullmatch(r".*layers\.(\d+)\.self_attn\.(k_proj|v_proj|k_norm)\.weight", source)
        return super().leaves_out(source) or (of_layer is not None and int(of_layer[1]) >= self.own_layers)

    def norm(self, target: str, source: str, length: int) -> TargetTensor:
        return self.tensor(f"{target}.weight", f"{source}.weight", (length,))

    def model(self, prefix: str, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        layers = len(self.windows)
        factors = self.factors()
        yield TargetTensor("rope_freqs.weight", (len(factors),), values=factors)
        yield self.tensor("token_embd.weight", f"{prefix}embed_tokens.weight", shape)
        if self.embedding_of_layer:
            self.config.one_of("vocab_size_per_layer_input", self.vocab_size)
            own = layers * self.embedding_of_layer
            source = f"{prefix}embed_tokens_per_layer.weight"
            yield self.tensor("per_layer_token_embd.weight", source, (self.vocab_size, own))
            source = f"{prefix}per_layer_model_projection.weight"
            yield self.tensor("per_layer_model_proj.weight", source, (own, self.embedding_length))
            yield self.norm("per_layer_proj_norm", f"{prefix}per_layer_projection_norm", self.embedding_of_layer)
        for index in range(layers):
            yield from self.layer(index, f"blk.{index}", f"{prefix}layers.{index}")
        yield self.norm("output_norm", f"{prefix}norm", self.embedding_length)

    def layer(self, index: int, target: str, source: str) -> Iterator[TargetTensor]:
        width = self.embedding_length
        yield self.norm(f"{target}.attn_norm", f"{source}.input_layernorm", width)
        yield from self.attention_of(index, target, f"{source}.self_attn")
        yield self.norm(f"{target}.post_attention_norm", f"{source}.post_attention_layernorm", width)
        yield self.norm(f"{target}.ffn_norm", f"{source}.pre_feedforward_layernorm", width)
        inner = self.feed_forward_lengths[index]
        yield from self.linear(f"{target}.ffn_gate", f"{source}.mlp.gate_proj", (inner, width))
        yield from self.linear(f"{target}.ffn_up", f"{source}.mlp.up_proj", (inner, width))
        yield from self.linear(f"{target}.ffn_down", f"{source}.mlp.down_proj", (width, inner))
        if self.experts is not None:
            yield from self.routed(self.experts[0], target, source)
        yield self.norm(f"{target}.post_ffw_norm", f"{source}.post_feedforward_layernorm", width)
        own = self.embedding_of_layer
        if own:
            yield from self.linear(f"{target}.inp_gate", f"{source}.per_layer_input_gate", (own, width))
            yield from self.linear(f"{target}.proj", f"{source}.per_layer_projection", (width, own))
            yield self.norm(f"{target}.post_norm", f"{source}.post_per_layer_input_norm", width)
        yield self.tensor(f"{target}.layer_output_scale.weight", f"{source}.layer_scalar", (1,))

    def attention_of(self, index: int, target: str, source: str) -> Iterator[TargetTensor]:
        width, head_dim = self.embedding_length, self.head_dims[index]
        query, key = self.heads * head_dim, self.key_heads[index] * head_dim
        has_keys = index < self.own_layers
        has_values = has_keys and (self.windows[index] or not self.config.flag("attention_k_eq_v"))
        yield from self.linear(f"{target}.attn_q", f"{source}.q_proj", (query, width))
        if has_keys:
            yield from self.linear(f"{target}.attn_k", f"{source}.k_proj", (key, width))
        if has_values:
            yield from self.linear(f"{target}.attn_v", f"{source}.v_proj", (key, width))
        yield from self.linear(f"{target}.attn_output", f"{source}.o_proj", (width, query))
        for name in "qk" if has_keys else "q":
            yield self.norm(f"{target}.attn_{name}_norm", f"{source}.{name}_norm", head_dim)

    def routed(self, experts: int, target: str, source: str) -> Iterator[TargetTensor]:
        """Experts beside the feed-forward part, with norms of their own; each expert's output is scaled."""
        width, inner = self.embedding_length, self.config.integer("moe_intermediate_size")
        yield self.tensor(f"{target}.ffn_gate_inp.weight", f"{source}.router.proj.weight", (experts, width))
        yield self.tensor(f"{target}.ffn_gate_inp.scale", f"{source}.router.scale", (width,))
        if f"{source}.experts.gate_up_proj" in self.sources:
            gate_up, down = (experts, 2 * inner, width), (experts, width, inner)
            yield self.tensor(f"{target}.ffn_gate_up_exps.weight", f"{source}.experts.gate_up_proj", gate_up)
            yield self.tensor(f"{target}.ffn_down_exps.weight", f"{source}.experts.down_proj", down)
        else:
            yield from expert_stacks(self, target, f"{source}.experts", (experts, inner, width))
        yield self.tensor(f"{target}.ffn_down_exps.scale", f"{source}.router.per_expert_scale", (experts,))
        for name in ("pre_{}_2", "post_{}_1", "post_{}_2"):
            yield self.norm(
                f"{target}.{name.format('ffw_norm')}", f"{source}.{name.format('feedforward_layernorm')}", width
            )


class Gemma4Unified(Gemma4):
    """The models whose pictures and sound need no encoder: no embeddings for each layer, no experts."""

    classes = ("Gemma4UnifiedForCausalLM",)
    defaults: ClassVar = {
        **{name: value for name, value in Gemma4.defaults.items() if not name.endswith("per_layer_input")},
        "max_position_embeddings": 262144,
        "sliding_window": 1024,
    }
    embedding_of_layer = 0
    experts = None


class Gemma4Multimodal(Gemma3Multimodal, Gemma4):
    """The text part of the checkpoint with pictures and sound, whose fields stand in ``text_config``."""

    classes = ("Gemma4ForConditionalGeneration",)
    skipped: ClassVar[tuple[str, ...]] = (
        *COMPUTED_BUFFERS,
        r"model\.(vision_tower|audio_tower|embed_vision|embed_audio|vision_embedder)\..*",
    )

    def warnings(self) -> list[str]:
        return [
            *Gemma4.warnings(self),
            "the checkpoint's parts for pictures and sound are left out: the file reads text only",
        ]


class Gemma4UnifiedMultimodal(Gemma4Multimodal, Gemma4Unified):
    classes = ("Gemma4UnifiedForConditionalGeneration",)
