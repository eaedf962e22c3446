"""MPT: ALiBi instead of positions, norms and projections without biases, queries, keys and values perhaps clipped."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.parts.decoder import Gate
from converter.architectures.parts.layer_norm import LayerNormDecoder
from converter.gguf.key_values import KeyValue, float32


class Mpt(LayerNormDecoder):
    classes = ("MptForCausalLM", "MPTForCausalLM")
    arch = "mpt"
    defaults: ClassVar = {
        "layer_norm_epsilon": 1e-5,
        "no_bias": True,
        "norm_type": "low_precision_layernorm",
        "tie_word_embeddings": True,
    }
    aliases: ClassVar = {
        "d_model": "hidden_size",
        "n_heads": "num_attention_heads",
        "n_layers": "num_hidden_layers",
        "max_seq_len": "max_position_embeddings",
    }
    names: ClassVar = {
        "token_embd": "transformer.wte",
        "blk": "transformer.blocks",
        "output_norm": "transformer.norm_f",
        "output": "lm_head",
        "attn_norm": "norm_1",
        "attn_qkv": "attn.Wqkv",
        "attn_output": "attn.out_proj",
        "ffn_norm": "norm_2",
        "ffn_up": "ffn.up_proj",
        "ffn_down": "ffn.down_proj",
    }
    gate = Gate.NONE
    epsilon = "layer_norm_epsilon"
    # transformers, too, knows no other than GELU.
    activations = ()
    norm_bias = False
    rotary_factor = None

    @property
    def kv_heads(self) -> int:
        return self.heads

    @property
    def feed_forward_length(self) -> int:
        return 4 * self.embedding_length

    def key_values(self) -> list[KeyValue]:
        config, arch = self.config, self.arch
        config.one_of("no_bias", True)
        config.one_of("norm_type", "low_precision_layernorm", "layernorm")
        config.one_of("expansion_ratio", 4, None)
        config.one_of("logit_scale", None)
        attention = self.attention_config
        pairs = [*super().key_values(), float32(f"{arch}.attention.max_alibi_bias", 8.0)]
        bound = attention.number("clip_qkv") if "clip_qkv" in attention else 0.0
        if bound:
            pairs.append(float32(f"{arch}.attention.clamp_kqv", attention.positive("clip_qkv")))
        return pairs

    @property
    def attention_config(self) -> Hyperparameters:
        """``attn_config``, once it asks for nothing that transformers or llama.cpp would leave out."""
        usual = {"alibi": True, "alibi_bias_max": 8, "attn_type": "multihead_attention"}
        attention = self.config.section("attn_config", usual)
        attention.one_of("attn_type", "multihead_attention")
        attention.one_of("alibi", True)
        attention.one_of("alibi_bias_max", 8)
        attention.one_of("softmax_scale", None, self.head_dim**-0.5)
        attention.one_of("kv_n_heads", None, self.heads)
        for name in ("qk_ln", "prefix_lm"):
            attention.one_of(name, False, None)
        return attention
