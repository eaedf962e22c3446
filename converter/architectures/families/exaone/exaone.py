"""EXAONE 3.0 and 3.5: Llama under GPT-2's names. transformers has no class for it."""

from __future__ import annotations

from typing import ClassVar

from converter.architectures.parts.decoder import Decoder


class Exaone(Decoder):
    classes = ("ExaoneForCausalLM",)
    arch = "exaone"
    defaults: ClassVar = {
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "activation_function": "silu",
        "tie_word_embeddings": True,
    }
    aliases: ClassVar = {"num_layers": "num_hidden_layers", "layer_norm_epsilon": "rms_norm_eps"}
    names: ClassVar = {
        "token_embd": "transformer.wte",
        "blk": "transformer.h",
        "output_norm": "transformer.ln_f",
        "output": "lm_head",
        "attn_norm": "ln_1",
        "attn_q": "attn.attention.q_proj",
        "attn_k": "attn.attention.k_proj",
        "attn_v": "attn.attention.v_proj",
        "attn_output": "attn.attention.out_proj",
        "ffn_norm": "ln_2",
        "ffn_gate": "mlp.c_fc_0",
        "ffn_up": "mlp.c_fc_1",
        "ffn_down": "mlp.c_proj",
    }
    body = ""
    activation = "activation_function"
    rotates_neighbours = False
    takes_head_dim = False

    @property
    def feed_forward_length(self) -> int:
        given = "intermediate_size" in self.config
        return self.config.integer("intermediate_size") if given else 4 * self.embedding_length
