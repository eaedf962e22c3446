"""Command A+ and North: Cohere 2's layers with experts, after a prefix of layers without."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from converter.architectures.families.cohere.cohere import Cohere2
from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.parts.experts import (
    SIGMOID,
    SOFTMAX,
    expert_counts,
    expert_key_values,
    expert_stacks,
    leading_dense,
)
from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.architectures.parts.windows import FULL, WINDOW, windowed
from converter.architectures.target import Operation, TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, boolean, float32, uint32


class Cohere2Moe(Cohere2):
    classes = ("Cohere2MoeForCausalLM",)
    arch = "cohere2moe"
    defaults: ClassVar[dict[str, Any]] = {
        **Cohere2.defaults,
        "head_dim": 128,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "num_shared_experts": 0,
        "shared_expert_combination_strategy": "average",
        "expert_selection_fn": "softmax",
        "norm_topk_prob": True,
        "prefix_dense_sliding_window_pattern": 1,
        "sliding_window_pattern": 4,
    }
    skipped = COMPUTED_BUFFERS
    takes_head_dim = True

    @property
    def expert_counts(self) -> tuple[int, int]:
        return expert_counts(self.config, "num_experts", "num_experts_per_tok")

    @property
    def expert_length(self) -> int:
        return self.config.integer("intermediate_size")

    @property
    def feed_forward_length(self) -> int:
        name = "prefix_dense_intermediate_size"
        return self.config.integer(name) if name in self.config else self.expert_length

    @property
    def dense_layers(self) -> int:
        """How many first layers have no experts."""
        usual = self.config.integer("first_k_dense_replace", 0) if "first_k_dense_replace" in self.config else 0
        return leading_dense(self.config, self.arch, usual)

    @property
    def windows(self) -> list[bool]:
        config = self.config
        layers, dense = config.integer("num_hidden_layers"), self.dense_layers
        prefix = config.integer("prefix_dense_sliding_window_pattern")
        period = config.integer("sliding_window_pattern")
        # Both patterns begin anew with their first layer.
        places = [(index, prefix) for index in range(dense)] + [(index, period) for index in range(layers - dense)]
        usual = [WINDOW if (index + 1) % every else FULL for index, every in places]
        windows = windowed(self.arch, config.layer_types(layers, usual, (FULL, WINDOW)))
        if prefix != 1 and not all(windows[:dense]):
            raise ArchitectureError(
                f"config.json: 'prefix_dense_sliding_window_pattern' is {prefix}, so a layer of the first {dense} that "
                f"attends to all has no rope, but llama.cpp's {self.arch} gives it one"
            )
        return windows

    @property
    def sums_shared(self) -> bool:
        """Whether the shared experts' output is added to the others', of which llama.cpp takes the mean."""
        return self.config.one_of("shared_expert_combination_strategy", "average", "sum") == "sum" and self.shared > 0

    @property
    def shared(self) -> int:
        return self.config.integer("num_shared_experts", 0)

    @property
    def norm_epsilon(self) -> KeyValue:
        """``rms_norm_eps`` makes the norms RMS norms."""
        if "rms_norm_eps" not in self.config:
            return super().norm_epsilon
        epsilon = self.config.positive("rms_norm_eps")
        return float32(f"{self.arch}.attention.layer_norm_rms_epsilon", epsilon)

    def leaves_out(self, source: str) -> bool:
        """Layers beyond num_hidden_layers predict several tokens ahead; transformers does not run them either."""
        layer = re.match(r"model\.layers\.(\d+)\.", source)
        beyond = layer is not None and int(layer[1]) >= self.config.integer("num_hidden_layers")
        return beyond or super().leaves_out(source)

    def key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        sigmoid = config.one_of("expert_selection_fn", "softmax", "sigmoid") == "sigmoid"
        pairs = [
            *super().key_values(),
            uint32(f"{arch}.vocab_size", self.vocab_size),
            *expert_key_values(arch, self.expert_counts),
            uint32(f"{arch}.expert_feed_forward_length", self.expert_length),
            uint32(f"{arch}.leading_dense_block_count", self.dense_layers),
            uint32(f"{arch}.expert_gating_func", SIGMOID if sigmoid else SOFTMAX),
            # A softmax over the chosen experts is one over all, divided by the chosen ones' sum.
            boolean(f"{arch}.expert_weights_norm", config.flag("norm_topk_prob") or not sigmoid),
        ]
        if self.shared:
            pairs += [
                uint32(f"{arch}.expert_shared_count", self.shared),
                uint32(f"{arch}.expert_shared_feed_forward_length", self.shared * self.expert_length),
            ]
        if self.sums_shared:
            pairs.append(float32(f"{arch}.expert_weights_scale", 2.0))
        return pairs

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        yield from LayerNormDecoder.output_matrix(self, shape)

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        if int(target.split(".")[1]) < self.dense_layers:
            yield from super().feed_forward(target, source)
            return
        experts, inner, width = self.expert_counts[0], self.expert_length, self.embedding_length
        yield self.tensor(f"{target}.ffn_gate_inp.weight", f"{source}.gate.weight", (experts, width))
        yield from expert_stacks(self, target, f"{source}.experts", (experts, inner, width))
        if self.shared:
            # The mean of twice both is their sum; llama.cpp doubles the experts' weights itself.
            twice = Operation("multiply", 2.0) if self.sums_shared else None
            shape = (self.shared * inner, width)
            for name, size, operation in (("gate", shape, None), ("up", shape, None), ("down", shape[::-1], twice)):
                matrix = f"{source}.shared_experts.{name}_proj.weight"
                yield self.tensor(f"{target}.ffn_{name}_shexp.weight", matrix, size, operation=operation)
