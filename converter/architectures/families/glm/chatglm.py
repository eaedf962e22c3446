"""GLM-4's first release, under the names of ChatGLM 2 and 3. transformers has no class for it, but one for the later
release of the same weights (``GlmForCausalLM``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.decoder import Llama
from converter.architectures.parts.rope import Rope
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue

#: What each of these fields must be: another value is another computation than llama.cpp's.
COMPUTED: dict[str, tuple[bool | None, ...]] = {
    "add_bias_linear": (False, None),
    "apply_residual_connection_post_layernorm": (False, None),
    "interleaved_qkv": (False, None),
    "multi_query_attention": (True,),
    "position_encoding_2d": (False, None),
    "post_layer_norm": (True,),
    "rmsnorm": (True,),
}

#: Rows of ChatGLM 2's and 3's embedding.
CHATGLM3_VOCABULARY = 65024


class ChatGLM(Llama):
    classes = ("ChatGLMModel", "ChatGLMForConditionalGeneration")
    arch = "chatglm"
    defaults: ClassVar = {
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "multi_query_attention": False,
        "num_key_value_heads": 1,
        "head_dim": 128,
        "post_layer_norm": True,
        "rmsnorm": True,
        "rope_ratio": 1,
    }
    aliases: ClassVar = {
        "num_layers": "num_hidden_layers",
        "padded_vocab_size": "vocab_size",
        "ffn_hidden_size": "intermediate_size",
        "kv_channels": "head_dim",
        "multi_query_group_num": "num_key_value_heads",
        "seq_length": "max_position_embeddings",
        "layernorm_epsilon": "rms_norm_eps",
    }
    skipped = (*Llama.skipped, r"transformer\.rotary_pos_emb\.inv_freq")
    takes_head_dim = False

    @property
    def rotary_dim(self) -> int:
        return self.head_dim // 2

    @property
    def rope(self) -> Rope:
        """A base of 10000 times ``rope_ratio``."""
        ratio = self.config.positive("rope_ratio")
        if ratio != 1 and self.vocab_size == CHATGLM3_VOCABULARY:
            raise ArchitectureError(
                f"config.json: 'rope_ratio' is {ratio}, by which ChatGLM 3 multiplies the rope's base and ChatGLM 2 "
                "divides positions; config.json does not say which of them this is"
            )
        return Rope(10000.0 * ratio, "default", self.config.integer("max_position_embeddings"))

    def key_values(self) -> list[KeyValue]:
        for name, values in COMPUTED.items():
            self.config.one_of(name, *values)
        return super().key_values()

    def tensors(self) -> Iterator[TargetTensor]:
        shape, body = (self.vocab_size, self.embedding_length), "transformer.encoder"
        yield self.tensor("token_embd.weight", "transformer.embedding.word_embeddings.weight", shape)
        for index in range(self.config.integer("num_hidden_layers")):
            yield from self.block(f"blk.{index}", f"{body}.layers.{index}")
        yield self.tensor("output_norm.weight", f"{body}.final_layernorm.weight", shape[1:])
        yield self.tensor("output.weight", "transformer.output_layer.weight", shape)

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, hidden = self.embedding_length, self.feed_forward_length
        fused = (self.heads + 2 * self.kv_heads) * self.head_dim
        bias = self.config.flag("add_qkv_bias")
        yield self.tensor(f"{target}.attn_norm.weight", f"{source}.input_layernorm.weight", (width,))
        # llama.cpp cuts this projection and halves that of the feed-forward itself, in the order of the source.
        attention = f"{source}.self_attention"
        yield from self.linear(f"{target}.attn_qkv", f"{attention}.query_key_value", (fused, width), bias=bias)
        yield self.tensor(f"{target}.attn_output.weight", f"{attention}.dense.weight", (width, width))
        yield self.tensor(f"{target}.ffn_norm.weight", f"{source}.post_attention_layernorm.weight", (width,))
        yield self.tensor(f"{target}.ffn_up.weight", f"{source}.mlp.dense_h_to_4h.weight", (2 * hidden, width))
        yield self.tensor(f"{target}.ffn_down.weight", f"{source}.mlp.dense_4h_to_h.weight", (width, hidden))
