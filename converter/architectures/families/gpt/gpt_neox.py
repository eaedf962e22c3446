"""GPT-NeoX: Pythia, Dolly, RedPajama and others; attention and feed-forward side by side or in turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.layer_norm import LayerNormDecoder, zeros
from converter.architectures.target import RowMap, TargetTensor
from converter.gguf.key_values import KeyValue, boolean


class GPTNeoX(LayerNormDecoder):
    classes = ("GPTNeoXForCausalLM",)
    arch = "gptneox"
    defaults: ClassVar = {
        "hidden_act": "gelu",
        "max_position_embeddings": 2048,
        "layer_norm_eps": 1e-5,
        "use_parallel_residual": True,
        "attention_bias": True,
    }
    aliases: ClassVar = {"rotary_pct": "partial_rotary_factor", "rotary_emb_base": "rope_theta"}
    rotary_factor = 0.25
    needs_output = True
    embedding = "gpt_neox.embed_in"
    layers = "gpt_neox.layers"
    final_norm = "gpt_neox.final_layer_norm"

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        if "embed_out.weight" in self.sources:
            yield self.tensor("output.weight", "embed_out.weight", shape)
        else:
            yield from super().output_matrix(shape)

    def key_values(self) -> list[KeyValue]:
        parallel = self.config.flag("use_parallel_residual")
        return [*super().key_values(), boolean(f"{self.arch}.use_parallel_residual", parallel)]

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, inner = self.embedding_length, self.feed_forward_length
        bias = self.config.flag("attention_bias")
        rows = interleaved_thirds(self.heads, self.head_dim)
        yield from self.norm(f"{target}.attn_norm", f"{source}.input_layernorm")
        yield from self.linear(
            f"{target}.attn_qkv", f"{source}.attention.query_key_value", (3 * width, width), bias=bias, rows=rows
        )
        if not bias:
            yield zeros(f"{target}.attn_qkv.bias", 3 * width)
        yield from self.biased(f"{target}.attn_output", f"{source}.attention.dense", (width, width), bias=bias)
        yield from self.norm(f"{target}.ffn_norm", f"{source}.post_attention_layernorm")
        yield from self.linear(f"{target}.ffn_up", f"{source}.mlp.dense_h_to_4h", (inner, width), bias=True)
        yield from self.linear(f"{target}.ffn_down", f"{source}.mlp.dense_4h_to_h", (width, inner), bias=True)


def interleaved_thirds(heads: int, head_dim: int) -> RowMap:
    """All queries, then all keys, then all values, out of rows ``[q, k, v]`` of one head after the other."""
    return RowMap(0, ((3, head_dim), (heads, 3 * head_dim), (head_dim, 1)))
