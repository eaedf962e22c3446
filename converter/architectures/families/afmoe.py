"""AFMoE (Arcee's Trinity): gated attention, norms around both sublayers, windows mixed with layers without rope."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from converter.architectures.layer import Layer, Names
from converter.architectures.parts.experts import SIGMOID, weights_scale
from converter.architectures.parts.sigmoid_experts import SigmoidExperts
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, uint32

#: llama.cpp attends to everything, and rotates nothing, in every layer of this number.
FULL_EVERY = 4

#: Choices of experts that configs of Arcee's own code name, with the one that transformers and llama.cpp both make.
CHOICE = {
    "score_func": "sigmoid",
    "route_norm": True,
    "n_group": 1,
    "topk_group": 1,
    "num_expert_groups": 1,
    "num_limited_groups": 1,
}


class Afmoe(SigmoidExperts):
    classes = ("AfmoeForCausalLM",)
    arch = "afmoe"
    defaults: ClassVar[dict[str, Any]] = {
        "max_position_embeddings": 16384,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "head_dim": 128,
        "attention_bias": False,
        "tie_word_embeddings": False,
        "mup_enabled": False,
        "sliding_window": 1024,
        "global_attn_every_n_layers": 4,
        "num_dense_layers": 1,
        "moe_intermediate_size": 1408,
        "num_experts": 64,
        "num_experts_per_tok": 6,
        "num_shared_experts": 2,
        "route_scale": 1.0,
    }
    names: ClassVar[Names] = {
        **SigmoidExperts.names,
        "attn_gate": "self_attn.gate_proj",
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_mlp_layernorm",
        "ffn_gate_inp": "mlp.router.gate",
        "exp_probs_b": "mlp.expert_bias",
        "post_ffw_norm": "post_mlp_layernorm",
    }
    layout = ("attn_norm", "attention", "post_attention_norm", "ffn_norm", "feed_forward", "post_ffw_norm")
    norms_heads = True
    count_field = "num_experts"
    shared_field = "num_shared_experts"

    @property
    def dense_layers(self) -> int:
        return self.config.integer("num_dense_layers", 0)

    def key_values(self) -> list[KeyValue]:
        config = self.config
        # llama.cpp always multiplies the embedding by the square root of its length, and knows no biases.
        config.one_of("mup_enabled", True)
        config.one_of("attention_bias", False)
        if config.says_none("sliding_window"):
            raise ArchitectureError(
                f"config.json: 'sliding_window' is None, but llama.cpp runs {self.arch} only with a window"
            )
        self.check_layer_types()
        window = uint32(f"{self.arch}.attention.sliding_window", config.integer("sliding_window"))
        return [*super().key_values(), window]

    def check_layer_types(self) -> None:
        """Refuse a model whose windows and ropes are not in the layers where llama.cpp has them."""
        layers = self.config.integer("num_hidden_layers")

        def every(period: int) -> list[str]:
            return ["sliding_attention" if index % period else "full_attention" for index in range(1, layers + 1)]

        period = self.config.integer("global_attn_every_n_layers")
        kinds = self.config.layer_types(layers, every(period), ("sliding_attention", "full_attention"))
        if kinds != every(FULL_EVERY):
            field = "layer_types" if "layer_types" in self.config else "global_attn_every_n_layers"
            raise self.config.refusal(
                field,
                f"but llama.cpp runs {self.arch} only with full attention in every layer whose number is a multiple of "
                f"{FULL_EVERY} and a window in the others",
            )

    def choice(self, experts: int) -> dict[str, Any]:
        for field, value in CHOICE.items():
            self.config.one_of(field, value, None)
        return {"gating": SIGMOID, "scale": weights_scale(self.config, "route_scale"), "normalized": True}

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        yield from super().attention(layer)
        yield from self.projection(layer, "attn_gate", (self.heads * self.head_dim, self.embedding_length))
