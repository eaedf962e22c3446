"""EXAONE 4: norms on each head and behind each sublayer; the large one mixes windows with layers without rope."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.llama import Llama
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.metadata import KeyValue, array, uint32

#: llama.cpp runs windows in a model of this many layers only, that of EXAONE 4 32B.
WINDOWED_LAYERS = 64


class Exaone4(Llama):
    classes = ("Exaone4ForCausalLM",)
    arch = "exaone4"
    defaults: ClassVar = {
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "num_key_value_heads": 32,
        "sliding_window": 4096,
        "sliding_window_pattern": 4,
    }
    rotates_neighbours = False
    norms_heads = True
    takes_head_dim = False

    @property
    def query_bias(self) -> bool:
        return False

    @property
    def output_bias(self) -> bool:
        return False

    def key_values(self) -> list[KeyValue]:
        config = self.config
        config.one_of("mlp_bias", False, None)
        # An absent field means a window of 4096; an explicit null means none.
        if config.config.get("sliding_window", 0) is None:
            return super().key_values()
        layers, window = config.integer("num_hidden_layers"), config.integer("sliding_window")
        if layers != WINDOWED_LAYERS:
            raise ArchitectureError(
                f"config.json: 'sliding_window' is {window}, but llama.cpp runs {self.arch} with a window only where "
                f"num_hidden_layers is {WINDOWED_LAYERS}, not {layers}"
            )
        types = config.layer_types(layers, self.usual_types(layers), ("sliding_attention", "full_attention"))
        windows = [kind == "sliding_attention" for kind in types]
        return [
            *super().key_values(),
            uint32(f"{self.arch}.attention.sliding_window", window),
            array(f"{self.arch}.attention.sliding_window_pattern", windows, GGUFValueType.BOOL),
        ]

    def usual_types(self, layers: int) -> list[str]:
        """Layer types of a config that names only the pattern: the full layers' period, or letters like LLLG."""
        pattern = self.config.get("sliding_window_pattern")
        if not isinstance(pattern, str):
            period = self.config.integer("sliding_window_pattern")
            pattern = "L" * (period - 1) + "G"
        kinds = {"L": "sliding_attention", "G": "full_attention"}
        return [kinds.get(pattern[layer % len(pattern)], pattern) for layer in range(layers)]

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width = (self.embedding_length,)
        yield from self.attention(target, f"{source}.self_attn")
        yield self.tensor(f"{target}.post_attention_norm.weight", f"{source}.post_attention_layernorm.weight", width)
        yield from self.feed_forward(target, f"{source}.mlp")
        yield self.tensor(f"{target}.post_ffw_norm.weight", f"{source}.post_feedforward_layernorm.weight", width)
