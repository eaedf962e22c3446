"""Gemma 2: norms behind each sublayer too, sliding windows in every other layer, soft-capped logits."""

from __future__ import annotations

from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.families.gemma.gemma import Gemma
from converter.architectures.layer import Names
from converter.architectures.parts.layer_norm import GELUS
from converter.architectures.parts.windows import FULL, WINDOW, windowed
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, array, float32, uint32

#: llama.cpp always caps. Under so high a cap (a power of two, so exactly) every logit stays as it is.
NO_CAP = 2.0**30


class Gemma2(Gemma):
    classes = ("Gemma2ForCausalLM",)
    arch = "gemma2"
    in_transformers: ClassVar = {"gemma2": LINEAR_BY_NAME}
    defaults: ClassVar = {
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "tie_word_embeddings": True,
    }
    names: ClassVar[Names] = {
        **Gemma.names,
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    }
    layout: ClassVar[tuple[str, ...]] = (
        "attn_norm",
        "attention",
        "post_attention_norm",
        "ffn_norm",
        "feed_forward",
        "post_ffw_norm",
    )
    activation = "hidden_activation"
    activations = GELUS
    #: Layers by which llama.cpp knows the 27B model, which it scales queries by hidden_size / heads for.
    layers_of_27b: ClassVar[int | None] = 46

    @property
    def period(self) -> int:
        """Every so many layers there is one without a window."""
        return 2

    @property
    def windows(self) -> list[bool]:
        """Which layers attend to a window only."""
        layers = self.config.integer("num_hidden_layers")
        kinds = ("sliding_attention", "full_attention")
        usual = [kinds[(index + 1) % self.period == 0] for index in range(layers)]
        return [kind == "sliding_attention" for kind in self.config.layer_types(layers, usual, kinds)]

    def key_values(self) -> list[KeyValue]:
        self.check_query_scale()
        return [*super().key_values(), *self.window_key_values(), *self.cap_key_values()]

    def window_key_values(self) -> list[KeyValue]:
        self.check_windowed()
        prefix = f"{self.arch}.attention.sliding_window"
        return [
            uint32(prefix, self.config.integer("sliding_window")),
            array(f"{prefix}_pattern", self.windows, GGUFValueType.BOOL),
        ]

    def check_windowed(self) -> None:
        """Refuse a model without windows: llama.cpp ends its process over the cache for them."""
        windowed(self.arch, [WINDOW if window else FULL for window in self.windows])

    def cap_key_values(self) -> list[KeyValue]:
        names = ("attn_logit_softcapping", "final_logit_softcapping")
        # An explicit null means no cap; an absent field, transformers' default.
        uncapped = [name for name in names if self.config.says_none(name)]
        return [
            float32(f"{self.arch}.{name}", NO_CAP if name in uncapped else self.config.number(name)) for name in names
        ]

    def check_query_scale(self) -> None:
        """Refuse another scale of the queries than the one llama.cpp takes."""
        large = self.config.integer("num_hidden_layers") == self.layers_of_27b
        taken = self.embedding_length // self.heads if large else self.head_dim
        scalar = self.config.number("query_pre_attn_scalar")
        if scalar != taken:
            raise ArchitectureError(
                f"config.json: 'query_pre_attn_scalar' is {scalar:g}, but llama.cpp runs this model only with {taken}"
            )
