"""Command A+ and North: Cohere 2's layers with experts, after a prefix of layers without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from converter.architectures.families.cohere.cohere import Cohere2
from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.layer import Layer
from converter.architectures.parts.experts import LENGTH, SIGMOID, SOFTMAX, Mixture, expert_counts, leading_dense
from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.architectures.parts.rope import Rope
from converter.architectures.parts.windows import FULL, WINDOW, windowed
from converter.architectures.target import Operation, TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, float32, uint32


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
    predicts_ahead = True
    mixture_keys = (
        *LENGTH,
        "leading_dense_block_count",
        "expert_gating_func",
        "expert_weights_norm",
        "expert_shared_count",
        "expert_shared_feed_forward_length",
        "expert_weights_scale",
    )
    takes_head_dim = True

    @property
    def rope(self) -> Rope:
        """``rope_parameters`` count first: transformers' class keeps ``rope_scaling`` apart and does not read it."""
        parameters = self.config.section("rope_parameters")
        return Rope.of(self.config, parameters if any(parameters) else None)

    @property
    def mixture(self) -> Mixture:
        config, length = self.config, self.expert_length
        sigmoid = config.one_of("expert_selection_fn", "softmax", "sigmoid") == "sigmoid"
        return Mixture(
            *expert_counts(config, "num_experts", "num_experts_per_tok"),
            length,
            dense=self.dense_layers,
            shared=self.shared or None,
            shared_length=self.shared * length,
            gating=SIGMOID if sigmoid else SOFTMAX,
            scale=2.0 if self.sums_shared else None,
            # A softmax over the chosen experts is one over all, divided by the chosen ones' sum.
            normalized=config.flag("norm_topk_prob") or not sigmoid,
        )

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

    def key_values(self) -> list[KeyValue]:
        return [
            *super().key_values(),
            uint32(f"{self.arch}.vocab_size", self.vocab_size),
            *self.mixture_key_values(),
        ]

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        yield from LayerNormDecoder.output_matrix(self, shape)

    def shared_experts(self, layer: Layer, mixture: Mixture) -> Iterator[TargetTensor]:
        """The mean of twice both is their sum; llama.cpp doubles the experts' weights itself."""
        for tensor in super().shared_experts(layer, mixture):
            doubled = self.sums_shared and tensor.name == f"{layer.target}.ffn_down_shexp.weight"
            yield tensor.under(Operation("multiply", 2.0)) if doubled else tensor
