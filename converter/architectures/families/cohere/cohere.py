"""Cohere's Command R and R+: attention and feed-forward side by side after one norm without bias, scaled logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.layer import Layer
from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.architectures.parts.tied import require_tied
from converter.architectures.parts.windows import FULL, WINDOW, windowed
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, array, float32, uint32

#: Layers from which llama.cpp expects norms on each query and key head, as Command R+ has them.
LAYERS_WITH_HEAD_NORMS = 64


class Cohere(LayerNormDecoder):
    """Command R, whose rope rotates neighbouring elements in transformers as in llama.cpp."""

    classes = ("CohereForCausalLM",)
    arch = "command-r"
    in_transformers: ClassVar = {"cohere": LINEAR_BY_NAME}
    defaults: ClassVar = {
        "hidden_act": "silu",
        "layer_norm_eps": 1e-5,
        "logit_scale": 0.0625,
        "max_position_embeddings": 8192,
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
    }
    skipped: ClassVar[tuple[str, ...]] = (*COMPUTED_BUFFERS, r"lm_head\.weight")
    layout = ("attn_norm", "attention", "feed_forward")
    activations = ("silu",)
    norm_bias = False

    @property
    def context_length(self) -> int:
        """``model_max_length`` where there is one: Command R's ``max_position_embeddings`` is less than it reads."""
        name = "model_max_length" if "model_max_length" in self.config else "max_position_embeddings"
        return self.config.integer(name)

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("attention_bias", False, None)
        return [*super().key_values(), float32(f"{self.arch}.logit_scale", self.config.number("logit_scale"))]

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        require_tied(self, *(f"{self.source_name(part)}.weight" for part in ("token_embd", "output")))
        yield from ()

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        yield from super().attention(layer)
        normed, layers = self.config.flag("use_qk_norm"), self.config.integer("num_hidden_layers")
        if normed != (layers >= LAYERS_WITH_HEAD_NORMS):
            raise ArchitectureError(
                f"config.json: 'use_qk_norm' is {normed} with {layers} layers, but llama.cpp runs {self.arch} with "
                f"these norms from {LAYERS_WITH_HEAD_NORMS} layers, without them below"
            )
        if normed:
            for part, heads in (("attn_q_norm", self.heads), ("attn_k_norm", self.kv_heads)):
                norm = f"{self.source_name(part, layer)}.weight"
                yield self.tensor(f"{layer.target}.{part}.weight", norm, (heads, self.head_dim))


class Cohere2(Cohere):
    """Command R7B and A: sliding windows in most layers, and rope only in those."""

    classes = ("Cohere2ForCausalLM",)
    arch = "cohere2"
    in_transformers: ClassVar = {"cohere2": LINEAR_BY_NAME}
    defaults: ClassVar = {
        "hidden_act": "silu",
        "layer_norm_eps": 1e-5,
        "logit_scale": 0.0625,
        "max_position_embeddings": 8192,
        "sliding_window": 4096,
        "tie_word_embeddings": True,
    }

    @property
    def windows(self) -> list[bool]:
        """Which layers attend to a window only."""
        layers, kinds = self.config.integer("num_hidden_layers"), (WINDOW, FULL)
        # Older files give the pattern by a number.
        period = self.config.integer("sliding_window_pattern") if "sliding_window_pattern" in self.config else 4
        usual = [kinds[(index + 1) % period == 0] for index in range(layers)]
        return windowed(self.arch, self.config.layer_types(layers, usual, kinds))

    def key_values(self) -> list[KeyValue]:
        self.config.one_of("rotary_pct", 1, None)
        self.config.one_of("use_qk_norm", False, None)
        prefix = f"{self.arch}.attention.sliding_window"
        return [
            *super().key_values(),
            uint32(prefix, self.config.integer("sliding_window")),
            array(f"{prefix}_pattern", self.windows, GGUFValueType.BOOL),
        ]

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        yield from super(Cohere, self).attention(layer)
