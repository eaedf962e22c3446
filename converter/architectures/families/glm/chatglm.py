"""GLM-4's first release, under the names of ChatGLM 2 and 3. transformers has no class for it, but one for the later
release of the same weights (``GlmForCausalLM``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.decoder import Decoder, Gate
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


class ChatGLM(Decoder):
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
    names: ClassVar = {
        "token_embd": "transformer.embedding.word_embeddings",
        "blk": "transformer.encoder.layers",
        "output_norm": "transformer.encoder.final_layernorm",
        "output": "transformer.output_layer",
        "attn_norm": "input_layernorm",
        "attn_qkv": "self_attention.query_key_value",
        "attn_output": "self_attention.dense",
        "ffn_norm": "post_attention_layernorm",
        "ffn_up": "mlp.dense_h_to_4h",
        "ffn_down": "mlp.dense_4h_to_h",
    }
    body = ""
    gate = Gate.FUSED
    skipped = (*Decoder.skipped, r"transformer\.rotary_pos_emb\.inv_freq")
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

    @property
    def query_bias(self) -> bool:
        return self.config.flag("add_qkv_bias")

    @property
    def output_bias(self) -> bool:
        return False

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        yield self.tensor("output.weight", f"{self.source_name('output')}.weight", shape)
