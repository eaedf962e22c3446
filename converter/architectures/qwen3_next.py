"""Qwen3-Next: three layers of gated delta nets for one of gated attention, experts in every layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.mamba import convolution
from converter.architectures.qwen_moe import Qwen2Moe
from converter.architectures.rope import rotated_elements
from converter.architectures.target import Operation, Piece, RowMap, TargetTensor
from converter.errors import ArchitectureError
from converter.metadata import KeyValue, array, uint32


class Qwen3Next(Qwen2Moe):
    classes = ("Qwen3NextForCausalLM",)
    arch = "qwen3next"
    defaults: ClassVar = {
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "num_key_value_heads": 2,
        "head_dim": 256,
        "attention_bias": False,
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "full_attention_interval": 4,
        "num_experts": 512,
        "num_experts_per_tok": 10,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
    }
    takes_head_dim = True
    norms_heads = True
    needs_output = False
    normalizes = True
    #: Layers that predict several tokens ahead, which transformers does not run either.
    skipped = (*Qwen2Moe.skipped, r"(model\.)?mtp\..*")

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

    def delta_net(self, target: str, source: str) -> Iterator[TargetTensor]:
        """``in_proj_qkvz`` holds, for each key head, its query, key, values and gates:
        [q, k, v, v, z, z, q, k, …] → [q, q, k, k, v, v, v, v] and [z, z, z, z]."""
        width, config = self.embedding_length, self.config
        keys, values, length = self.delta_heads
        group = values // keys * length
        stride, fused = 2 * length + 2 * group, f"{source}.in_proj_qkvz.weight"
        self.source(fused, (keys * stride, width))
        starts = {"q": (0, length), "k": (length, length), "v": (2 * length, group), "z": (2 * length + group, group)}
        rows = {name: RowMap(start, ((keys, stride), (count, 1))) for name, (start, count) in starts.items()}
        channels = (2 * keys + values) * length
        pieces = tuple(Piece(fused, rows[name]) for name in "qkv")
        yield TargetTensor(f"{target}.attn_qkv.weight", (channels, width), pieces)
        yield TargetTensor(f"{target}.attn_gate.weight", (values * length, width), (Piece(fused, rows["z"]),))
        yield self.tensor(f"{target}.ssm_ba.weight", f"{source}.in_proj_ba.weight", (2 * values, width))
        kernel = (channels, config.integer("linear_conv_kernel_dim"))
        yield next(convolution(self, target, source, kernel, bias=False))
        yield self.tensor(f"{target}.ssm_dt.bias", f"{source}.dt_bias", (values,))
        decay = Operation("negated exponential")
        yield self.tensor(f"{target}.ssm_a", f"{source}.A_log", (values,), operation=decay)
        yield self.tensor(f"{target}.ssm_norm.weight", f"{source}.norm.weight", (length,))
        yield self.tensor(f"{target}.ssm_out.weight", f"{source}.out_proj.weight", (width, values * length))
