"""EXAONE 3.0 and 3.5: Llama under GPT-2's names. transformers has no class for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.parts.decoder import Llama
from converter.architectures.target import TargetTensor


class Exaone(Llama):
    classes = ("ExaoneForCausalLM",)
    arch = "exaone"
    defaults: ClassVar = {
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "activation_function": "silu",
        "tie_word_embeddings": True,
    }
    aliases: ClassVar = {"num_layers": "num_hidden_layers", "layer_norm_epsilon": "rms_norm_eps"}
    activation = "activation_function"
    rotates_neighbours = False
    takes_head_dim = False

    @property
    def feed_forward_length(self) -> int:
        given = "intermediate_size" in self.config
        return self.config.integer("intermediate_size") if given else 4 * self.embedding_length

    def tensors(self) -> Iterator[TargetTensor]:
        shape = (self.vocab_size, self.embedding_length)
        yield from self.frequency_factors()
        yield self.tensor("token_embd.weight", "transformer.wte.weight", shape)
        for index in range(self.config.integer("num_hidden_layers")):
            yield from self.block(f"blk.{index}", f"transformer.h.{index}")
        yield self.tensor("output_norm.weight", "transformer.ln_f.weight", shape[1:])
        yield from self.output_matrix(shape)

    def block(self, target: str, source: str) -> Iterator[TargetTensor]:
        width = (self.embedding_length,)
        yield self.tensor(f"{target}.attn_norm.weight", f"{source}.ln_1.weight", width)
        yield from self.attention(target, f"{source}.attn.attention")
        yield self.tensor(f"{target}.ffn_norm.weight", f"{source}.ln_2.weight", width)
        yield from self.feed_forward(target, f"{source}.mlp")

    def attention(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, keys = self.embedding_length, self.kv_heads * self.head_dim
        yield self.tensor(f"{target}.attn_q.weight", f"{source}.q_proj.weight", (width, width))
        yield self.tensor(f"{target}.attn_k.weight", f"{source}.k_proj.weight", (keys, width))
        yield self.tensor(f"{target}.attn_v.weight", f"{source}.v_proj.weight", (keys, width))
        yield self.tensor(f"{target}.attn_output.weight", f"{source}.out_proj.weight", (width, width))

    def feed_forward(self, target: str, source: str) -> Iterator[TargetTensor]:
        width, hidden = self.embedding_length, self.feed_forward_length
        yield self.tensor(f"{target}.ffn_gate.weight", f"{source}.c_fc_0.weight", (hidden, width))
        yield self.tensor(f"{target}.ffn_up.weight", f"{source}.c_fc_1.weight", (hidden, width))
        yield self.tensor(f"{target}.ffn_down.weight", f"{source}.c_proj.weight", (width, hidden))
