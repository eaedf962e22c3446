"""Qwen2-MoE and Qwen3-MoE: the dense models' attention with a mixture of experts in every layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from converter.architectures.families.qwen.qwen2 import Qwen2
from converter.architectures.families.qwen.qwen3 import Qwen3
from converter.architectures.parts.experts import expert_counts, expert_key_values, expert_stacks, shared_expert
from converter.architectures.target import Piece, TargetTensor
from converter.gguf.key_values import KeyValue, uint32


class Qwen2Moe(Qwen2):
    """Qwen1.5-MoE and Qwen2-57B-A14B: one shared expert beside the chosen ones, its output weighed by a gate."""

    classes = ("Qwen2MoeForCausalLM",)
    arch = "qwen2moe"
    defaults: ClassVar = {
        **Qwen2.defaults,
        "num_key_value_heads": 16,
        "num_experts": 60,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
        "norm_topk_prob": False,
        "qkv_bias": True,
        "decoder_sparse_step": 1,
    }
    needs_output = True
    #: Whether llama.cpp divides the chosen experts' weights by their sum.
    normalizes: ClassVar[bool] = False
    #: Field that says how many experts there are.
    count_field: ClassVar[str] = "num_experts"

    @property
    def query_bias(self) -> bool:
        return self.config.flag("qkv_bias")

    @property
    def sliding_window(self) -> int | None:
        return self.config.integer("sliding_window") if self.config.flag("use_sliding_window") else None

    @property
    def expert_counts(self) -> tuple[int, int]:
        return expert_counts(self.config, self.count_field, "num_experts_per_tok")

    def check_experts(self) -> None:
        """Refuse what llama.cpp does not run of how experts are weighed and which layers have them."""
        config = self.config
        config.one_of("norm_topk_prob", self.normalizes)
        config.one_of("decoder_sparse_step", 1)
        if "mlp_only_layers" in config and config.integers("mlp_only_layers"):
            raise config.refusal("mlp_only_layers", "but llama.cpp runs this family only with experts in every layer")

    def key_values(self) -> list[KeyValue]:
        config = self.config
        self.check_experts()
        return [
            *super().key_values(),
            *expert_key_values(self.arch, self.expert_counts),
            uint32(f"{self.arch}.expert_feed_forward_length", config.integer("moe_intermediate_size")),
            *self.shared_key_values(),
        ]

    def shared_key_values(self) -> list[KeyValue]:
        width = self.config.integer("shared_expert_intermediate_size")
        return [uint32(f"{self.arch}.expert_shared_feed_forward_length", width)]

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        experts, width = self.expert_counts[0], self.embedding_length
        yield self.tensor(f"{target}.ffn_gate_inp.weight", f"{source}.gate.weight", (experts, width))
        shape = (experts, self.config.integer("moe_intermediate_size"), width)
        yield from expert_stacks(self, target, f"{source}.experts", shape)
        yield from self.shared_expert(target, source)

    def shared_expert(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, hidden = self.embedding_length, self.config.integer("shared_expert_intermediate_size")
        gate = f"{source}.shared_expert_gate.weight"
        self.source(gate, (1, width))
        yield TargetTensor(f"{target}.ffn_gate_inp_shexp.weight", (width,), (Piece(gate),))
        yield from shared_expert(self, target, f"{source}.shared_expert", (hidden, width))


class Qwen3Moe(Qwen2Moe, Qwen3):
    """Qwen3-30B-A3B and its like: Qwen3's attention, no shared expert."""

    classes = ("Qwen3MoeForCausalLM",)
    arch = "qwen3moe"
    defaults: ClassVar = {
        **{name: value for name, value in Qwen2.defaults.items() if name != "max_window_layers"},
        "num_key_value_heads": 4,
        "num_local_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "norm_topk_prob": False,
        "decoder_sparse_step": 1,
        "attention_bias": False,
    }
    aliases: ClassVar[Mapping[str, str]] = {"num_experts": "num_local_experts"}
    needs_output = False
    normalizes = True
    count_field = "num_local_experts"

    @property
    def query_bias(self) -> bool:
        return False

    def shared_key_values(self) -> list[KeyValue]:
        return []

    def shared_expert(self, target: str, source: str) -> Iterator[TargetTensor]:
        yield from ()
