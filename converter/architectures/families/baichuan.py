"""Baichuan 1 and 2: Llama with one fused projection; the large ones without rope. transformers has no class for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from converter.architectures.layer import Layer
from converter.architectures.parts.decoder import Decoder
from converter.architectures.target import Operation, RowMap, TargetTensor, rotary_pairs, row_run
from converter.gguf.key_values import KeyValue, uint32

#: llama.cpp runs a model of 32 layers with rope, one of 40 with ALiBi, any other without positions.
WITH_ROPE, WITH_ALIBI = 32, 40
#: Rows of Baichuan 2's embedding.
BAICHUAN2_VOCABULARY = 125696


class Baichuan(Decoder):
    classes: ClassVar[tuple[str, ...]] = ("BaichuanForCausalLM", "BaiChuanForCausalLM")
    arch = "baichuan"
    defaults: ClassVar = {"max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "hidden_act": "silu"}
    aliases: ClassVar[Mapping[str, str]] = {"model_max_length": "max_position_embeddings"}
    names: ClassVar = {**Decoder.names, "attn_qkv": "self_attn.W_pack"}
    body = ""
    takes_frequency_factors = False
    takes_head_dim = False

    @property
    def kv_heads(self) -> int:
        return self.heads

    @property
    def normalizes_output(self) -> bool:
        """Baichuan 2 brings the output matrix's rows to unit length when it first runs."""
        return "z_loss_weight" in self.config or self.vocab_size == BAICHUAN2_VOCABULARY

    def key_values(self) -> list[KeyValue]:
        if self.config.integer("num_hidden_layers") not in (WITH_ROPE, WITH_ALIBI):
            raise self.config.refusal(
                "num_hidden_layers",
                f"but llama.cpp runs {self.arch} with {WITH_ROPE} layers, which have rope, or {WITH_ALIBI}, which have "
                "ALiBi",
            )
        return super().key_values()

    def head_key_values(self) -> list[KeyValue]:
        return [
            uint32(f"{self.arch}.vocab_size", self.vocab_size),
            uint32(f"{self.arch}.rope.dimension_count", self.head_dim),
        ]

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        unit = Operation("unit length") if self.normalizes_output else None
        yield self.tensor("output.weight", "lm_head.weight", shape, operation=unit)

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        """``W_pack`` holds queries, keys and values one below the other."""
        width = self.embedding_length
        maps = {f"attn_{name}": row_run(part * width, width) for part, name in enumerate("qkv")}
        if self.config.integer("num_hidden_layers") == WITH_ROPE:
            for part, name in enumerate("qk"):
                maps[f"attn_{name}"] = RowMap(part * width, rotary_pairs(self.heads, self.head_dim).loops)
        yield from self.cut(layer, 3 * width, maps)
        yield from self.projection(layer, "attn_output", (width, width))
