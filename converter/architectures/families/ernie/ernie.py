"""ERNIE 4.5: Llama with rope over neighbours in transformers too; dense, or with experts after the first layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.decoder import Llama
from converter.architectures.parts.experts import expert_counts, expert_key_values, expert_stacks, shared_expert
from converter.architectures.target import Piece, TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, uint32


class Ernie(Llama):
    classes = ("Ernie4_5ForCausalLM",)
    arch = "ernie4_5"
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

    @property
    def expert_counts(self) -> tuple[int, int]:
        return expert_counts(self.config, "moe_num_experts", "moe_k")

    @property
    def dense_layers(self) -> int:
        return self.config.integer("moe_layer_start_index", 0)

    @property
    def shared(self) -> int:
        """Feed-forward length of all shared experts together."""
        return self.config.integer("moe_intermediate_size") * self.config.integer("moe_num_shared_experts", 0)

    def key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        config.one_of("moe_layer_interval", 1)
        last = config.integer("moe_layer_end_index", -1)
        if 0 <= last < config.integer("num_hidden_layers") - 1:
            raise ArchitectureError(
                f"config.json: 'moe_layer_end_index' is {last}, but llama.cpp runs {arch} only with experts up to the "
                "last layer"
            )
        shared = [uint32(f"{arch}.expert_shared_feed_forward_length", self.shared)] if self.shared else []
        return [
            *super().key_values(),
            *expert_key_values(arch, self.expert_counts),
            uint32(f"{arch}.expert_feed_forward_length", config.integer("moe_intermediate_size")),
            *shared,
            uint32(f"{arch}.expert_shared_count", config.integer("moe_num_shared_experts", 0)),
            uint32(f"{arch}.interleave_moe_layer_step", 1),
            uint32(f"{arch}.leading_dense_block_count", self.dense_layers),
        ]

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        if int(target.split(".")[1]) < self.dense_layers:
            yield from super().feed_forward(target, source)
            return
        experts, width, inner = (
            self.expert_counts[0],
            self.embedding_length,
            self.config.integer("moe_intermediate_size"),
        )
        yield self.tensor(f"{target}.ffn_gate_inp.weight", f"{source}.gate.weight", (experts, width))
        old, new = (f"{source}.{place}.e_score_correction_bias" for place in ("moe_statics", "gate.moe_statics"))
        bias = old if old in self.sources else new
        self.source(bias, (1, experts))
        yield TargetTensor(f"{target}.exp_probs_b.bias", (experts,), (Piece(bias),))
        yield from expert_stacks(self, target, f"{source}.experts", (experts, inner, width))
        if self.shared:
            yield from shared_expert(self, target, f"{source}.shared_experts", (self.shared, width))
