"""T5, mT5 and UMT5: an encoder and a decoder, or the encoder alone, with learned biases of relative positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from converter.architectures.family import COMPUTED_BUFFERS, Family
from converter.architectures.layer import Layer, Names, stack
from converter.architectures.parts.pooling import pooling_key_values
from converter.architectures.target import Operation, TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, float32, uint32

#: Activations as config.json names them, with whether they are gated: what llama.cpp computes.
GATED = {"relu": False, "gated-gelu": True}


class T5(Family):
    """T5, T5 1.1 and FLAN-T5."""

    classes: ClassVar[tuple[str, ...]] = ("T5ForConditionalGeneration", "T5WithLMHeadModel")
    arch = "t5"
    defaults: ClassVar = {
        "vocab_size": 32128,
        "d_model": 512,
        "d_kv": 64,
        "d_ff": 2048,
        "num_layers": 6,
        "num_heads": 8,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
        "feed_forward_proj": "relu",
        "pad_token_id": 0,
    }
    names: ClassVar[Names] = {
        "token_embd": ("shared", "encoder.embed_tokens", "decoder.embed_tokens"),
        "attn_norm": "layer.0.layer_norm",
        "attn": "layer.0.SelfAttention",
        "cross_attn_norm": "layer.1.layer_norm",
        "cross_attn": "layer.1.EncDecAttention",
    }
    # transformers leaves this one out too: the published files have it from a time when cross-attention had biases.
    skipped: ClassVar[tuple[str, ...]] = (
        *COMPUTED_BUFFERS,
        r"(encoder|decoder)\.embed_tokens\.weight",
        r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
    )

    #: Each block has a bias of relative positions, not only the first.
    biased_blocks: ClassVar[bool] = False

    @property
    def embedding_length(self) -> int:
        return self.config.integer("d_model")

    @property
    def layers(self) -> int:
        return self.config.integer("num_layers")

    @property
    def decoder_layers(self) -> int:
        layers = self.config.integer("num_decoder_layers") if "num_decoder_layers" in self.config else self.layers
        if layers > self.layers:
            raise ArchitectureError(
                f"config.json: 'num_decoder_layers' is {layers}, but llama.cpp runs this family only with at most as "
                f"many as the encoder's {self.layers}"
            )
        return layers

    @property
    def gated(self) -> bool:
        return GATED[self.config.one_of("feed_forward_proj", *GATED)]

    @property
    def scales_output(self) -> bool:
        """The decoder's output is divided by the square root of its length before the output matrix."""
        if "scale_decoder_outputs" in self.config:
            return self.config.flag("scale_decoder_outputs")
        return "tie_word_embeddings" not in self.config or self.config.flag("tie_word_embeddings")

    def key_values(self) -> list[KeyValue]:
        # Without a start token in config.json, T5 starts with the padding token.
        field = "decoder_start_token_id" if "decoder_start_token_id" in self.config else "pad_token_id"
        start = self.config.integer(field, minimum=0)
        if start >= self.vocab_size:
            raise self.config.refusal(field, f"an id below the {self.vocab_size} rows of the embedding expected")
        return [
            *self.encoder_key_values(),
            uint32(f"{self.arch}.decoder_block_count", self.decoder_layers),
            uint32(f"{self.arch}.decoder_start_token_id", start),
        ]

    def encoder_key_values(self) -> list[KeyValue]:
        arch, config = self.arch, self.config
        config.one_of("relative_attention_max_distance", 128)
        # Relative positions know no longest text; the published models were trained on texts of this length.
        context_length = config.integer("n_positions") if "n_positions" in config else 512
        return [
            uint32(f"{arch}.block_count", self.layers),
            uint32(f"{arch}.context_length", context_length),
            uint32(f"{arch}.embedding_length", self.embedding_length),
            uint32(f"{arch}.feed_forward_length", config.integer("d_ff")),
            uint32(f"{arch}.attention.head_count", config.integer("num_heads")),
            uint32(f"{arch}.attention.key_length", config.integer("d_kv")),
            uint32(f"{arch}.attention.value_length", config.integer("d_kv")),
            uint32(f"{arch}.attention.relative_buckets_count", config.integer("relative_attention_num_buckets", 8)),
            float32(f"{arch}.attention.layer_norm_rms_epsilon", config.number("layer_norm_epsilon")),
            *pooling_key_values(arch, self.directory),
        ]

    def tensors(self) -> Iterator[TargetTensor]:
        shape = (self.vocab_size, self.embedding_length)
        yield from self.encoder()
        for layer in stack("decoder.block", ["decoder"] * self.decoder_layers, "dec.blk"):
            yield from self.attention(layer, "attn")
            yield from self.attention(layer, "cross_attn")
            yield from self.feed_forward(layer)
        # llama.cpp does not scale the decoder's output, so the norm before it does.
        scale = Operation("multiply", self.embedding_length**-0.5) if self.scales_output else None
        yield self.norm("dec.output_norm", "decoder.final_layer_norm", scale)
        if "lm_head.weight" in self.sources:
            yield self.tensor("output.weight", "lm_head.weight", shape)

    def encoder(self) -> Iterator[TargetTensor]:
        embedding = f"{self.source_name('token_embd')}.weight"
        yield self.tensor("token_embd.weight", embedding, (self.vocab_size, self.embedding_length))
        for layer in stack("encoder.block", ["encoder"] * self.layers, "enc.blk"):
            yield from self.attention(layer, "attn")
            yield from self.feed_forward(layer)
        yield self.norm("enc.output_norm", "encoder.final_layer_norm")

    def norm(self, target: str, source: str, operation: Operation | None = None) -> TargetTensor:
        return self.tensor(f"{target}.weight", f"{source}.weight", (self.embedding_length,), operation=operation)

    def attention(self, layer: Layer, part: str) -> Iterator[TargetTensor]:
        """A sublayer of attention, to the text itself or across to the encoder's."""
        width, heads = self.embedding_length, self.config.integer("num_heads")
        inner, target = heads * self.config.integer("d_kv"), f"{layer.target}.{part}"
        source = self.source_name(part, layer)
        yield self.norm(f"{target}_norm", self.source_name(f"{part}_norm", layer))
        for letter in "qkv":
            yield from self.linear(f"{target}_{letter}", f"{source}.{letter}", (inner, width))
        yield from self.linear(f"{target}_o", f"{source}.o", (width, inner))
        if part == "attn" and (layer.number == 0 or self.biased_blocks):
            buckets = self.config.integer("relative_attention_num_buckets")
            bias = f"{source}.relative_attention_bias.weight"
            yield self.tensor(f"{target}_rel_b.weight", bias, (buckets, heads))

    def feed_forward(self, layer: Layer) -> Iterator[TargetTensor]:
        """The last sublayer, whose number is one more where attention across stands before it."""
        width, inner = self.embedding_length, self.config.integer("d_ff")
        sublayer = f"{layer.source}.layer.{2 if layer.kind == 'decoder' else 1}"
        source, target = f"{sublayer}.DenseReluDense", layer.target
        yield self.norm(f"{target}.ffn_norm", f"{sublayer}.layer_norm")
        if self.gated:
            yield from self.linear(f"{target}.ffn_gate", f"{source}.wi_0", (inner, width))
        yield from self.linear(f"{target}.ffn_up", f"{source}.{'wi_1' if self.gated else 'wi'}", (inner, width))
        yield from self.linear(f"{target}.ffn_down", f"{source}.wo", (width, inner))


class MT5(T5):
    classes = ("MT5ForConditionalGeneration",)
    defaults: ClassVar = {
        **T5.defaults,
        "vocab_size": 250112,
        "d_ff": 1024,
        "num_layers": 8,
        "num_heads": 6,
        "feed_forward_proj": "gated-gelu",
        "decoder_start_token_id": 0,
    }
    scales_output = False


class UMT5(MT5):
    classes = ("UMT5ForConditionalGeneration",)
    biased_blocks = True
    scales_output = True


class T5Encoder(T5):
    """The encoder alone, of which llama.cpp returns embeddings."""

    classes = ("T5EncoderModel",)
    arch = "t5encoder"
    skipped: ClassVar[tuple[str, ...]] = (
        *COMPUTED_BUFFERS,
        r"encoder\.embed_tokens\.weight",
        r"decoder\..*",
        r"lm_head\..*",
    )

    def key_values(self) -> list[KeyValue]:
        return self.encoder_key_values()

    def tensors(self) -> Iterator[TargetTensor]:
        return self.encoder()


class MT5Encoder(T5Encoder):
    classes = ("MT5EncoderModel",)
    defaults: ClassVar = MT5.defaults


class UMT5Encoder(T5Encoder):
    classes = ("UMT5EncoderModel",)
    defaults: ClassVar = UMT5.defaults
    biased_blocks = True
