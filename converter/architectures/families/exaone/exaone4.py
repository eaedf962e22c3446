"""EXAONE 4 and its mixture of experts: norms on each head; windows mixed with layers that have no rope."""

from __future__ import annotations

from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.experts import leading_dense
from converter.architectures.parts.sigmoid_experts import SigmoidExperts
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, array, uint32

#: llama.cpp runs windows in a model of this many layers only, that of EXAONE 4 32B.
WINDOWED_LAYERS = 64


class Exaone4(Decoder):
    """EXAONE 4: norms behind each sublayer, windows in the large one."""

    classes = ("Exaone4ForCausalLM",)
    arch = "exaone4"
    in_transformers: ClassVar = {"exaone4": LINEAR_BY_NAME}
    defaults: ClassVar = {
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "num_key_value_heads": 32,
        "sliding_window": 4096,
        "sliding_window_pattern": 4,
    }
    names: ClassVar = {
        **Decoder.names,
        "post_attention_norm": "post_attention_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    }
    layout = ("attention", "post_attention_norm", "feed_forward", "post_ffw_norm")
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
        if config.says_none("sliding_window"):
            return super().key_values()
        layers, window = config.integer("num_hidden_layers"), config.integer("sliding_window")
        if layers != WINDOWED_LAYERS:
            raise ArchitectureError(
                f"config.json: 'sliding_window' is {window}, but llama.cpp runs {self.arch} with a window only where "
                f"num_hidden_layers is {WINDOWED_LAYERS}, not {layers}"
            )
        return [*super().key_values(), *window_key_values(config, self.arch)]


class ExaoneMoe(SigmoidExperts):
    """K-EXAONE: norms before the sublayers, windows in any number of layers, experts behind dense first ones."""

    classes = ("ExaoneMoeForCausalLM", "ExaoneMoEForCausalLM")
    arch = "exaone-moe"
    defaults: ClassVar = {
        **Exaone4.defaults,
        "first_k_dense_replace": 1,
        "moe_intermediate_size": 1024,
        "num_experts": 64,
        "num_experts_per_tok": 8,
        "num_shared_experts": 1,
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.5,
        "n_group": 1,
        "topk_group": 1,
    }
    takes_frequency_factors = True
    norms_heads = True
    needs_output = True
    count_field = "num_experts"
    shared_field = "num_shared_experts"
    #: Layers that predict several tokens ahead, which transformers does not run either.
    skipped = (*SigmoidExperts.skipped, r"mtp\..*")

    @property
    def query_bias(self) -> bool:
        return False

    @property
    def dense_layers(self) -> int:
        return leading_dense(self.config, self.arch, self.config.integer("first_k_dense_replace", 0))

    def key_values(self) -> list[KeyValue]:
        config = self.config
        if config.says_none("sliding_window"):
            raise ArchitectureError(
                f"config.json: 'sliding_window' is None, but llama.cpp runs {self.arch} only with a window"
            )
        length = uint32(f"{self.arch}.expert_shared_feed_forward_length", self.mixture.shared_length)
        return [*super().key_values(), *window_key_values(config, self.arch), length]


def window_key_values(config: Hyperparameters, arch: str) -> list[KeyValue]:
    """The window and which layers have it."""
    layers = config.integer("num_hidden_layers")
    types = config.layer_types(layers, usual_types(config, layers), ("sliding_attention", "full_attention"))
    windows = [kind == "sliding_attention" for kind in types]
    return [
        uint32(f"{arch}.attention.sliding_window", config.integer("sliding_window")),
        array(f"{arch}.attention.sliding_window_pattern", windows, GGUFValueType.BOOL),
    ]


def usual_types(config: Hyperparameters, layers: int) -> list[str]:
    """Layer types of a config that names only the pattern: the full layers' period, or letters like LLLG."""
    kinds = {"L": "sliding_attention", "G": "full_attention"}
    period = config.integer_or_letters("sliding_window_pattern", "".join(kinds))
    if isinstance(period, int):
        return [kinds["L" if (layer + 1) % period else "G"] for layer in range(layers)]
    return [kinds[period[layer % len(period)]] for layer in range(layers)]
