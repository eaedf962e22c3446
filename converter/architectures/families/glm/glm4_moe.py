"""GLM-4.5 and what llama.cpp runs as it (Solar Open), and dots1: sigmoid gates, shared experts, dense first layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.layer import Layer, Names
from converter.architectures.parts.rope import rotated_elements
from converter.architectures.parts.sigmoid_experts import SigmoidExperts
from converter.architectures.parts.windows import FULL, WINDOW
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue


class Glm4Moe(SigmoidExperts):
    """GLM-4.5, 4.6 and Air: rope on half of a head, norms on heads in the large one."""

    classes = ("Glm4MoeForCausalLM",)
    arch = "glm4moe"
    in_transformers: ClassVar = {"glm4_moe": LINEAR_BY_NAME}
    defaults: ClassVar[dict[str, Any]] = {
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "num_key_value_heads": 8,
        "moe_intermediate_size": 1408,
        "num_experts_per_tok": 8,
        "n_shared_experts": 1,
        "n_routed_experts": 128,
        "routed_scaling_factor": 1.0,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "norm_topk_prob": True,
        "attention_bias": False,
        "use_qk_norm": False,
    }
    #: The feed-forward's norm; llama.cpp calls it after what stands before it.
    names: ClassVar[Names] = {**SigmoidExperts.names, "post_attention_norm": "post_attention_layernorm"}
    layout = ("attn_norm", "attention", "post_attention_norm", "feed_forward")
    rotary_factor: ClassVar[float] = 0.5

    @property
    def rotary_dim(self) -> int:
        return rotated_elements(self.config, self.head_dim, self.rotary_factor)

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        yield from super().attention(layer)
        if self.config.flag("use_qk_norm"):
            yield from self.head_norms(layer)


class SolarOpen(Glm4Moe):
    """Solar Open: experts in every layer, rope on whole heads."""

    classes = ("SolarOpenForCausalLM",)
    defaults: ClassVar[dict[str, Any]] = {
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "num_key_value_heads": 8,
        "head_dim": 128,
        "rope_theta": 1e6,
        "moe_intermediate_size": 1280,
        "num_experts_per_tok": 8,
        "n_shared_experts": 1,
        "n_routed_experts": 128,
        "routed_scaling_factor": 1.0,
        "n_group": 1,
        "topk_group": 1,
        "norm_topk_prob": True,
    }
    rotary_factor = 1.0

    @property
    def dense_layers(self) -> int:
        return 0

    @property
    def feed_forward_length(self) -> int:
        """No layer has a feed-forward without experts, and no config a length for one."""
        return self.config.integer("moe_intermediate_size")


class Dots1(SigmoidExperts):
    """dots.llm1: norms on each head, as many key heads as query heads."""

    classes = ("Dots1ForCausalLM",)
    arch = "dots1"
    defaults: ClassVar = {
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "num_key_value_heads": 32,
        "routed_scaling_factor": 1.0,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 0,
        "norm_topk_prob": False,
        "moe_intermediate_size": 1408,
        "sliding_window": 4096,
        "max_window_layers": 62,
    }
    norms_heads = True
    needs_output = True

    @property
    def sliding_window(self) -> int | None:
        layers = self.config.integer("num_hidden_layers")
        kinds = self.config.layer_types(layers, [FULL] * layers, (FULL, WINDOW))
        return self.config.integer("sliding_window") if WINDOW in kinds else None

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("attention_bias", False, None)
        if self.kv_heads != self.heads:
            raise ArchitectureError(
                f"config.json: 'num_key_value_heads' is {self.kv_heads}, but llama.cpp runs {self.arch} only with "
                f"num_attention_heads = {self.heads}"
            )
        return super().key_values()
