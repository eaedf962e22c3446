"""ModernBERT: rope, gated feed-forward layers, and windows to both sides with a rope of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.layer import Layer
from converter.architectures.parts.encoder import Encoder
from converter.architectures.parts.rope import Rope
from converter.architectures.target import TargetTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, array, float32, string, uint32

FULL, WINDOW = "full_attention", "sliding_attention"


class ModernBert(Encoder):
    classes: ClassVar[tuple[str, ...]] = ("ModernBertModel", "ModernBertForMaskedLM")
    arch = "modern-bert"
    defaults: ClassVar = {
        "vocab_size": 50368,
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "hidden_activation": "gelu",
        "max_position_embeddings": 8192,
        "norm_eps": 1e-5,
        "local_attention": 128,
    }
    skipped: ClassVar[tuple[str, ...]] = (*COMPUTED_BUFFERS, r"head\..*", r"decoder\..*")
    names: ClassVar = {
        "token_embd": "model.embeddings.tok_embeddings",
        "token_embd_norm": "model.embeddings.norm",
        "blk": "model.layers",
        "output_norm": "model.final_norm",
        "attn_norm": "attn_norm",
        "attn_qkv": "attn.Wqkv",
        "attn_output": "attn.Wo",
        "ffn_norm": "mlp_norm",
        "ffn_up": "mlp.Wi",
        "ffn_down": "mlp.Wo",
    }
    body = "model."
    epsilon = "norm_eps"
    activation = "hidden_activation"
    #: llama.cpp takes any other name for gelu.
    activations = ("gelu", "silu")
    #: Name and default of the rope's base before transformers 5 gathered ropes in ``rope_parameters``.
    thetas: ClassVar[Mapping[str, tuple[str, float]]] = {
        FULL: ("global_rope_theta", 160000.0),
        WINDOW: ("local_rope_theta", 10000.0),
    }

    @property
    def windows(self) -> list[bool]:
        """Which layers attend to a window only; older files give the pattern by a number."""
        given = "global_attn_every_n_layers" in self.config
        period = self.config.integer("global_attn_every_n_layers") if given else 3
        layers = self.config.integer("num_hidden_layers")
        usual = [WINDOW if index % period else FULL for index in range(layers)]
        return [kind == WINDOW for kind in self.config.layer_types(layers, usual, (FULL, WINDOW))]

    def rope_of(self, layer_type: str) -> Rope:
        """The rope of layers of that type.

        Raises:
            ArchitectureError: it is scaled.
        """
        name, default = self.thetas[layer_type]
        own = self.config.section("rope_parameters").section(layer_type)
        scaling = self.config.section("rope_scaling")
        base = self.config.optional_positive(name)
        rope = Rope.of(
            self.config.with_fields(rope_theta=default if base is None else base), scaling if any(scaling) else own
        )
        if rope.scaling != "default":
            raise ArchitectureError(
                f"config.json: rope scaling of {layer_type} is {rope.scaling!r}, but llama.cpp runs {self.arch} only "
                "with default"
            )
        return rope

    def exact_lengths(self) -> Iterator[tuple[int, str]]:
        for layer_type in (FULL, WINDOW) if any(self.windows) else (FULL,):
            yield from self.rope_of(layer_type).exact_lengths()

    def key_values(self) -> list[KeyValue]:
        arch, config = self.arch, self.config
        for bias in ("attention_bias", "mlp_bias", "norm_bias"):
            config.one_of(bias, False, None)
        pairs = [
            *super().key_values(),
            uint32(f"{arch}.vocab_size", self.vocab_size),
            string(f"{arch}.hidden_activation", config.text(self.activation)),
            float32(f"{arch}.rope.freq_base", self.rope_of(FULL).theta),
        ]
        if any(self.windows):
            pairs += [
                uint32(f"{arch}.attention.sliding_window", config.integer("local_attention")),
                array(f"{arch}.attention.sliding_window_pattern", self.windows, GGUFValueType.BOOL),
                float32(f"{arch}.rope.freq_base_swa", self.rope_of(WINDOW).theta),
            ]
        return pairs

    def norm(self, target: str, source: str) -> Iterator[TargetTensor]:
        yield self.tensor(f"{target}.weight", f"{source}.weight", (self.embedding_length,))

    def tensors(self) -> Iterator[TargetTensor]:
        yield self.embedding_tensor()
        yield from self.norm("token_embd_norm", self.source_name("token_embd_norm"))
        for layer in self.layers:
            yield from self.block(layer)
        yield from self.norm("output_norm", self.source_name("output_norm"))
        yield from self.head()

    def block(self, layer: Layer) -> Iterator[TargetTensor]:
        width, inner = self.embedding_length, self.feed_forward_length
        if layer.number:  # before the first, the embedding is normed already
            yield from self.layer_norm(layer, "attn_norm")
        yield from self.projection(layer, "attn_qkv", (3 * width, width))
        yield from self.projection(layer, "attn_output", (width, width))
        yield from self.layer_norm(layer, "ffn_norm")
        # Both halves in one, the gated one first: so llama.cpp wants them too.
        yield from self.projection(layer, "ffn_up", (2 * inner, width))
        yield from self.projection(layer, "ffn_down", (width, inner))
