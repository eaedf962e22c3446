"""OLMo and its successors: no weights in the norms, then norms behind each sublayer, then experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.layer import Layer
from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.experts import Mixture
from converter.architectures.parts.rope import Rope
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, array, float32, uint32


class Olmo(Decoder):
    """OLMo 1: layer norms without weights; queries, keys and values may be clipped."""

    classes = ("OlmoForCausalLM",)
    arch = "olmo"
    in_transformers: ClassVar = {"olmo": LINEAR_BY_NAME}
    defaults: ClassVar = {"max_position_embeddings": 2048, "hidden_act": "silu"}
    body = ""
    layout = ("attention", "feed_forward")
    takes_frequency_factors = False
    takes_head_dim = False

    @property
    def norm_epsilon(self) -> KeyValue:
        # A constant in OLMo's code, in no config.
        return float32(f"{self.arch}.attention.layer_norm_epsilon", 1e-5)

    def key_values(self) -> list[KeyValue]:
        config = self.config
        config.one_of("attention_bias", False, None)
        pairs = super().key_values()
        if "clip_qkv" in config:
            pairs.append(float32(f"{self.arch}.attention.clamp_kqv", config.positive("clip_qkv")))
        return pairs

    def norm(self, target: str, source: str, length: int | None = None) -> Iterator[TargetTensor]:
        yield from ()


class Olmo2(Decoder):
    """OLMo 2: RMS norms on all queries and all keys at once, and behind attention and feed-forward, not before."""

    classes = ("Olmo2ForCausalLM",)
    arch = "olmo2"
    in_transformers: ClassVar = {"olmo2": LINEAR_BY_NAME}
    defaults: ClassVar = {"max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "hidden_act": "silu"}
    names: ClassVar = {
        **Decoder.names,
        "post_attention_norm": "post_attention_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    }
    layout: ClassVar[tuple[str, ...]] = ("attention", "post_attention_norm", "feed_forward", "post_ffw_norm")
    rotates_neighbours = False
    takes_frequency_factors = False
    takes_head_dim = False
    norms_heads = True
    needs_output = True

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("attention_bias", False, None)
        return super().key_values()

    def head_norms(self, layer: Layer) -> Iterator[TargetTensor]:
        for part, heads in (("attn_q_norm", self.heads), ("attn_k_norm", self.kv_heads)):
            yield from self.layer_norm(layer, part, heads * self.head_dim)


class Olmo3(Olmo2):
    """OLMo 3: OLMo 2 with sliding windows in most layers; those keep the plain rope where the others scale theirs."""

    classes = ("Olmo3ForCausalLM",)
    in_transformers: ClassVar = {"olmo3": LINEAR_BY_NAME}
    defaults: ClassVar = {**Olmo2.defaults, "rope_theta": 500000.0, "sliding_window": 4096}

    @property
    def layer_types(self) -> list[str]:
        layers = self.config.integer("num_hidden_layers")
        usual = ["full_attention" if index % 4 == 3 else "sliding_attention" for index in range(layers)]
        return self.config.layer_types(layers, usual, ("sliding_attention", "full_attention"))

    def rope_of(self, layer_type: str) -> Rope:
        """transformers 5 keeps one rope for each layer type; before that, ``rope_scaling`` held the full layers'."""
        parameters = self.config.section("rope_parameters")
        if any(parameters):
            return Rope.of(self.config, parameters.section(layer_type))
        return Rope.of(self.config, None if layer_type == "full_attention" else parameters)

    @property
    def rope(self) -> Rope:
        full, sliding = self.rope_of("full_attention"), self.rope_of("sliding_attention")
        if sliding.scaling != "default" or sliding.theta != full.theta:
            raise ArchitectureError(
                f"config.json: sliding layers' rope is {sliding.scaling!r} with theta {sliding.theta:g}, but llama.cpp "
                f"runs them only with 'default' and the full layers' theta {full.theta:g}"
            )
        return full

    def key_values(self) -> list[KeyValue]:
        windows = [kind == "sliding_attention" for kind in self.layer_types]
        return [
            *super().key_values(),
            uint32(f"{self.arch}.attention.sliding_window", self.config.integer("sliding_window")),
            array(f"{self.arch}.attention.sliding_window_pattern", windows, GGUFValueType.BOOL),
        ]


class Olmoe(Olmo2):
    """OLMoE: OLMo 2's attention in Llama's order of norms, with a mixture of experts in every layer."""

    classes = ("OlmoeForCausalLM",)
    arch = "olmoe"
    in_transformers: ClassVar = {"olmoe": LINEAR_BY_NAME}
    defaults: ClassVar = {
        **Olmo2.defaults,
        "max_position_embeddings": 4096,
        "num_key_value_heads": 16,
        "num_experts": 64,
        "num_experts_per_tok": 8,
        "norm_topk_prob": False,
    }

    @property
    def mixture(self) -> Mixture:
        return Mixture.of(self.config, "num_experts", "num_experts_per_tok", "intermediate_size")

    def key_values(self) -> list[KeyValue]:
        config = self.config
        config.one_of("norm_topk_prob", False)
        config.one_of("clip_qkv", None)
        if self.kv_heads != self.heads:
            raise ArchitectureError(
                f"config.json: 'num_key_value_heads' is {self.kv_heads}, but llama.cpp runs {self.arch} only with "
                f"num_attention_heads = {self.heads}"
            )
        return [*super().key_values(), *self.mixture_key_values()]

    layout = Decoder.layout
