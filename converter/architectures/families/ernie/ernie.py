"""ERNIE 4.5: Llama with rope over neighbours in transformers too; dense, or with experts after the first layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.facts import LINEAR_BY_NAME
from converter.architectures.layer import Layer
from converter.architectures.parts.decoder import Decoder
from converter.architectures.parts.experts import LENGTH, Mixture, expert_counts
from converter.architectures.target import Piece, TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue


class Ernie(Decoder):
    classes = ("Ernie4_5ForCausalLM",)
    arch = "ernie4_5"
    in_transformers: ClassVar = {"ernie4_5": LINEAR_BY_NAME}
    defaults: ClassVar = {
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "num_key_value_heads": 2,
        "head_dim": 128,
        "rope_theta": 500000.0,
        "use_bias": False,
        "tie_word_embeddings": True,
    }
    rotates_neighbours = False
    takes_frequency_factors = False

    def key_values(self) -> list[KeyValue]:
        # llama.cpp would load three of the seven biases.
        self.config.one_of("use_bias", False)
        return super().key_values()


class ErnieMoe(Ernie):
    """Experts chosen with a bias that only the choice sees, beside a shared one."""

    classes = ("Ernie4_5_MoeForCausalLM",)
    arch = "ernie4_5-moe"
    in_transformers: ClassVar = {"ernie4_5_moe": LINEAR_BY_NAME}
    defaults: ClassVar = {
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "num_key_value_heads": 4,
        "rope_theta": 500000.0,
        "use_bias": False,
        "tie_word_embeddings": True,
        "moe_intermediate_size": 1536,
        "moe_k": 6,
        "moe_num_experts": 64,
        "moe_num_shared_experts": 2,
        "moe_layer_start_index": 1,
        "moe_layer_end_index": -1,
        "moe_layer_interval": 1,
    }
    #: Layers that predict several tokens ahead, which neither transformers nor llama.cpp runs.
    skipped = (*Ernie.skipped, r"model\.mtp_.*")
    names: ClassVar = {
        **Ernie.names,
        "exp_probs_b": tuple(f"mlp.{place}.e_score_correction_bias" for place in ("moe_statics", "gate.moe_statics")),
    }
    mixture_keys = (
        *LENGTH,
        "expert_shared_feed_forward_length",
        "expert_shared_count",
        "interleave_moe_layer_step",
        "leading_dense_block_count",
    )

    @property
    def mixture(self) -> Mixture:
        config, length = self.config, self.config.integer("moe_intermediate_size")
        shared = config.integer("moe_num_shared_experts", 0)
        return Mixture(
            *expert_counts(config, "moe_num_experts", "moe_k"),
            length,
            dense=config.integer("moe_layer_start_index", 0),
            step=1,
            shared=shared,
            shared_length=shared * length,
        )

    def key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        config.one_of("moe_layer_interval", 1)
        last = config.integer("moe_layer_end_index", -1)
        if 0 <= last < config.integer("num_hidden_layers") - 1:
            raise ArchitectureError(
                f"config.json: 'moe_layer_end_index' is {last}, but llama.cpp runs {arch} only with experts up to the "
                "last layer"
            )
        return [*super().key_values(), *self.mixture_key_values()]

    def choice_bias(self, layer: Layer, mixture: Mixture) -> Iterator[TargetTensor]:
        bias, experts = self.source_name("exp_probs_b", layer), mixture.experts
        self.source(bias, (1, experts))
        yield TargetTensor(f"{layer.target}.exp_probs_b.bias", (experts,), (Piece(bias),))
