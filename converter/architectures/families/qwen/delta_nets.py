"""Layers of gated delta nets among layers of gated attention: what Qwen3-Next and Qwen3.5 share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

from gguf import GGUFValueType

from converter.architectures.families.qwen.qwen2 import Qwen2
from converter.architectures.layer import Layer
from converter.architectures.parts.rope import rotated_elements
from converter.architectures.target import Operation, TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, array, uint32


class GatedDeltaNets(Qwen2):
    """Base of such families; they say how a delta net's projections are stored, and what follows each mixer."""

    #: Norms hold their weight minus one, but for those inside the delta nets.
    norm_operation = Operation("add", 1.0)
    layout = ("attn_norm", "mixer", "post_attention_norm", "feed_forward")

    takes_head_dim = True
    norms_heads = True
    needs_output = False
    #: Layers that predict several tokens ahead, which transformers does not run either.
    skipped = (*Qwen2.skipped, r"(model\.)?mtp\..*")

    @property
    def query_bias(self) -> bool:
        return False

    @property
    def sliding_window(self) -> int | None:
        return None

    @property
    def rotary_dim(self) -> int:
        return rotated_elements(self.config, self.head_dim, 0.25)

    @property
    def kinds(self) -> list[str]:
        layers, interval = self.config.integer("num_hidden_layers"), self.config.integer("full_attention_interval")
        usual = ["linear_attention" if layer % interval else "full_attention" for layer in range(1, layers + 1)]
        return self.config.layer_types(layers, usual, ("linear_attention", "full_attention"))

    @property
    def delta_heads(self) -> tuple[int, int, int]:
        """Key heads, value heads and the length of either in a delta net."""
        config = self.config
        keys, values = config.integer("linear_num_key_heads"), config.integer("linear_num_value_heads")
        length = config.integer("linear_key_head_dim")
        if values % keys:
            raise ArchitectureError(
                f"config.json: linear_num_value_heads {values} is not a multiple of linear_num_key_heads {keys}"
            )
        # llama.cpp reads one length for both.
        config.one_of("linear_value_head_dim", length)
        return keys, values, length

    def key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        config.one_of("attention_bias", False)
        keys, values, length = self.delta_heads
        recurrent = [kind == "linear_attention" for kind in self.kinds]
        return [
            *super().key_values(),
            uint32(f"{arch}.rope.dimension_count", self.rotary_dim),
            uint32(f"{arch}.ssm.conv_kernel", config.integer("linear_conv_kernel_dim")),
            uint32(f"{arch}.ssm.state_size", length),
            uint32(f"{arch}.ssm.group_count", keys),
            uint32(f"{arch}.ssm.time_step_rank", values),
            uint32(f"{arch}.ssm.inner_size", values * length),
            array(f"{arch}.attention.recurrent_layers", recurrent, GGUFValueType.BOOL),
        ]

    def mixer(self, layer: Layer) -> Iterator[TargetTensor]:
        yield from self.attention(layer) if layer.kind == "full_attention" else self.delta_net(layer)

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        width, query, key = self.embedding_length, self.heads * self.head_dim, self.kv_heads * self.head_dim
        # Each query head is followed by its gate, on either side.
        yield from self.projection(layer, "attn_q", (2 * query, width))
        yield from self.projection(layer, "attn_k", (key, width))
        yield from self.projection(layer, "attn_v", (key, width))
        yield from self.projection(layer, "attn_output", (width, query))
        yield from self.head_norms(layer)

    @abstractmethod
    def delta_net(self, layer: Layer) -> Iterator[TargetTensor]:
        """The tensors of one delta net."""
