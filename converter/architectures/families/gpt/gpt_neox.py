"""GPT-NeoX: Pythia, Dolly, RedPajama and others; attention and feed-forward side by side or in turn."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.parts.decoder import Gate
from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.architectures.target import RowMap
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
    names: ClassVar = {
        "token_embd": "gpt_neox.embed_in",
        "blk": "gpt_neox.layers",
        "output_norm": "gpt_neox.final_layer_norm",
        "output": ("embed_out", "lm_head"),
        "attn_norm": "input_layernorm",
        "attn_qkv": "attention.query_key_value",
        "attn_output": "attention.dense",
        "ffn_norm": "post_attention_layernorm",
        "ffn_up": "mlp.dense_h_to_4h",
        "ffn_down": "mlp.dense_4h_to_h",
    }
    gate = Gate.NONE
    feed_forward_bias = True
    zero_biases = ("attn_qkv", "attn_output")
    rotary_factor = 0.25
    needs_output = True

    @property
    def fused_rows(self) -> RowMap:
        return interleaved_thirds(self.heads, self.head_dim)

    def key_values(self) -> list[KeyValue]:
        parallel = self.config.flag("use_parallel_residual")
        return [*super().key_values(), boolean(f"{self.arch}.use_parallel_residual", parallel)]


def interleaved_thirds(heads: int, head_dim: int) -> RowMap:
    """All queries, then all keys, then all values, out of rows ``[q, k, v]`` of one head after the other."""
    return RowMap(0, ((3, head_dim), (heads, 3 * head_dim), (head_dim, 1)))
