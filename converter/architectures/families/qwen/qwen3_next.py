"""Qwen3-Next: three layers of gated delta nets for one of gated attention, experts in every layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.families.qwen.delta_nets import GatedDeltaNets
from converter.architectures.families.qwen.qwen_moe import Qwen2Moe
from converter.architectures.families.state_space.mamba import convolution
from converter.architectures.layer import Layer, Names
from converter.architectures.target import Operation, Piece, RowMap, TargetTensor


class Qwen3Next(GatedDeltaNets, Qwen2Moe):
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
    names: ClassVar[Names] = {**Qwen2Moe.names, "post_attention_norm": "post_attention_layernorm"}
    normalizes = True

    def delta_net(self, layer: Layer) -> Iterator[TargetTensor]:
        """``in_proj_qkvz`` holds, for each key head, its query, key, values and gates:
        [q, k, v, v, z, z, q, k, …] → [q, q, k, k, v, v, v, v] and [z, z, z, z]."""
        width, config = self.embedding_length, self.config
        target, source = layer.target, f"{layer.source}.linear_attn"
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
