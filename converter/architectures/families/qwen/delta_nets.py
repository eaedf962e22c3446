"""Layers of gated delta nets among layers of gated attention: what Qwen3-Next and Qwen3.5 share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace

from gguf import GGUFValueType

from converter.architectures.families.qwen.qwen2 import Qwen2
from converter.architectures.parts.rope import rotated_elements
from converter.architectures.target import Operation, TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, array, uint32


class GatedDeltaNets(Qwen2):
    """Base of such families; they say how a delta net's projections are stored, and what follows each mixer."""

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
    def layer_types(self) -> list[str]:
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
        recurrent = [kind == "linear_attention" for kind in self.layer_types]
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

    def tensors(self) -> Iterator[TargetTensor]:
        """Norms hold their weight minus one, but for those inside the delta nets."""
        for tensor in super().tensors():
            if tensor.name.endswith("norm.weight") and not tensor.name.endswith("ssm_norm.weight"):
                yield replace(tensor, pieces=(replace(tensor.pieces[0], operation=Operation("add", 1.0)),))
            else:
                yield tensor

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width = (self.embedding_length,)
        yield self.tensor(f"{target}.attn_norm.weight", f"{source}.input_layernorm.weight", width)
        if self.layer_types[int(target.split(".")[1])] == "full_attention":
            yield from self.attention(target, f"{source}.self_attn")
        else:
            yield from self.delta_net(target, f"{source}.linear_attn")
        yield self.tensor(f"{target}.post_attention_norm.weight", f"{source}.post_attention_layernorm.weight", width)
        yield from self.feed_forward(target, f"{source}.mlp")

    def attention(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, query, key = self.embedding_length, self.heads * self.head_dim, self.kv_heads * self.head_dim
        # Each query head is followed by its gate, on either side.
        yield self.tensor(f"{target}.attn_q.weight", f"{source}.q_proj.weight", (2 * query, width))
        yield self.tensor(f"{target}.attn_k.weight", f"{source}.k_proj.weight", (key, width))
        yield self.tensor(f"{target}.attn_v.weight", f"{source}.v_proj.weight", (key, width))
        yield self.tensor(f"{target}.attn_output.weight", f"{source}.o_proj.weight", (width, query))
        yield from self.head_norms(target, source)

    @abstractmethod
    def delta_net(self, target: str, source: str) -> Iterator[TargetTensor]:
        """The tensors of one delta net."""
