"""Gemma 3n: four parallel residual streams (AltUp), low-rank residuals (LAuReL), an embedding for each layer.

llama.cpp reads none of what is new here from the file: the streams, the rank, the sparse layers and the layers that
share keys and values are those of the published models, so a config with others is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from gguf import GGUFValueType

from converter.architectures.families.gemma.gemma3 import Gemma3
from converter.architectures.layer import Layer, Names
from converter.architectures.target import Piece, RowMap, TargetTensor, row_run
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, array, float32, uint32

#: Layers that compute keys and values; those behind them read the cache of the last two.
CACHING_LAYERS = 20
#: Layer whose cache a layer with and without a window reads.
CACHE_OF = {"sliding_attention": CACHING_LAYERS - 2, "full_attention": CACHING_LAYERS - 1}
#: The first layers keep only the largest gates, this share of them becomes zero.
SPARSE_LAYERS = 10
SPARSITY = 0.95
#: The normal quantile of ``SPARSITY`` in float32, as transformers and llama.cpp have it.
SPARSITY_SCALE = 1.6448533535003662
#: Fields of config.json and the one value llama.cpp runs.
FIXED = {
    "altup_num_inputs": 4,
    "altup_active_idx": 0,
    "altup_correct_scale": True,
    "hidden_size_per_layer_input": 256,
    "laurel_rank": 64,
}


class Gemma3n(Gemma3):
    classes = ("Gemma3nForCausalLM",)
    arch = "gemma3n"
    defaults: ClassVar = {
        **FIXED,
        "vocab_size": 262400,
        "vocab_size_per_layer_input": 262144,
        "hidden_size": 2048,
        "intermediate_size": 16384,
        "num_hidden_layers": 35,
        "num_kv_shared_layers": 15,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "sliding_window": 512,
        "final_logit_softcapping": 30.0,
        "tie_word_embeddings": True,
    }
    names: ClassVar[Names] = {
        **Gemma3.names,
        "per_layer_token_embd": "model.embed_tokens_per_layer",
        "per_layer_model_proj": "model.per_layer_model_projection",
        "per_layer_proj_norm": "model.per_layer_projection_norm",
        "altup_proj": "model.altup_projections",
        "altup_unembd_proj": "model.altup_unembed_projections",
    }
    norm_operation = None
    activations = ("gelu_pytorch_tanh",)
    period = 5

    @property
    def layer_width(self) -> int:
        """Elements of a token's embedding for one layer."""
        return self.config.integer("hidden_size_per_layer_input")

    @property
    def feed_forward_length(self) -> int:
        """One length for all layers, though files may list one for each."""
        return self.config.integer_of_layers("intermediate_size", len(self.kinds))

    def key_values(self) -> list[KeyValue]:
        for name, value in FIXED.items():
            self.config.one_of(name, value)
        self.check_sharing()
        self.check_sparsity()
        arch, sparse = self.arch, min(len(self.kinds), SPARSE_LAYERS)
        scales = [SPARSITY_SCALE] * sparse + [-math.inf] * (len(self.kinds) - sparse)
        return [
            *super().key_values(),
            uint32(f"{arch}.attention.shared_kv_layers", self.config.integer("num_kv_shared_layers", 0)),
            uint32(f"{arch}.altup.active_idx", self.config.integer("altup_active_idx", 0)),
            uint32(f"{arch}.altup.num_inputs", self.config.integer("altup_num_inputs")),
            uint32(f"{arch}.embedding_length_per_layer_input", self.layer_width),
            array(f"{arch}.activation_sparsity_scale", scales, GGUFValueType.FLOAT32),
        ]

    def check_sharing(self) -> None:
        """Refuse other layers with keys and values of their own than llama.cpp's."""
        shared, needed = self.config.integer("num_kv_shared_layers", 0), max(len(self.kinds) - CACHING_LAYERS, 0)
        if shared != needed:
            raise ArchitectureError(
                f"config.json: 'num_kv_shared_layers' is {shared}, but llama.cpp runs {self.arch} of {len(self.kinds)} "
                f"layers only with {needed}: the first {CACHING_LAYERS} have keys and values of their own"
            )
        kinds = [("full_attention", "sliding_attention")[window] for window in self.windows]
        for kind in sorted(set(kinds[CACHING_LAYERS:])):
            own = [index for index in range(CACHING_LAYERS) if kinds[index] == kind]
            if not own or own[-1] != CACHE_OF[kind]:
                raise ArchitectureError(
                    f"config.json: 'layer_types' has {kind!r} behind layer {CACHING_LAYERS - 1}, which llama.cpp runs "
                    f"in {self.arch} only where layer {CACHE_OF[kind]} is the last of the kind before"
                )

    def check_sparsity(self) -> None:
        """Refuse other gates than llama.cpp's cut off."""
        sparse = min(len(self.kinds), SPARSE_LAYERS)
        needed = [SPARSITY] * sparse + [0.0] * (len(self.kinds) - sparse)
        field = "activation_sparsity_pattern"
        if field in self.config:
            pattern = self.config.numbers(field, len(self.kinds))
        else:
            # transformers' default: a model no deeper than the sparse layers has none of them.
            pattern = needed if len(self.kinds) > SPARSE_LAYERS else [0.0] * len(self.kinds)
        if pattern != needed:
            raise self.config.with_fields(**{field: pattern}).refusal(
                field,
                f"but llama.cpp runs {self.arch} only with {SPARSITY} for the first {SPARSE_LAYERS} layers and 0 for "
                "others",
            )

    def check_query_scale(self) -> None:
        """Queries are never scaled, here and there."""

    def window_key_values(self) -> list[KeyValue]:
        self.check_windowed()
        return super().window_key_values()

    def cap_key_values(self) -> list[KeyValue]:
        field = "final_logit_softcapping"
        if self.config.says_none(field):
            raise self.config.refusal(field, f"but llama.cpp runs {self.arch} only with 30.0")
        return [float32(f"{self.arch}.{field}", self.config.one_of(field, 30.0))]

    def output_matrix(self, shape: tuple[int, int]) -> Iterator[TargetTensor]:
        """What all layers share of their own embeddings and of the streams comes before it."""
        width, all_layers = self.embedding_length, len(self.kinds) * self.layer_width
        yield self.layer_embeddings(f"{self.source_name('per_layer_token_embd')}.weight", all_layers)
        source = f"{self.source_name('per_layer_model_proj')}.weight"
        yield self.tensor("per_layer_model_proj.weight", source, (all_layers, width))
        yield from self.norm("per_layer_proj_norm", self.source_name("per_layer_proj_norm"), self.layer_width)
        for part in ("altup_proj", "altup_unembd_proj"):
            sources = [f"{self.source_name(part)}.{index}.weight" for index in range(FIXED["altup_num_inputs"] - 1)]
            pieces = tuple(Piece(self.source(name, (width, width)).name) for name in sources)
            yield TargetTensor(f"{part}.weight", (len(pieces), width, width), pieces)
        yield from super().output_matrix(shape)

    def layer_embeddings(self, source: str, length: int) -> TargetTensor:
        """The tokens' embeddings for all layers, a row for each token of the whole vocabulary.

        The source has fewer rows: none for the placeholders of images and sounds, for which transformers takes
        token 0's (``Gemma3nTextModel.get_per_layer_inputs``).
        """
        rows = self.config.integer("vocab_size_per_layer_input")
        self.source(source, (rows, length))
        pieces = [Piece(source, None if rows <= self.vocab_size else row_run(0, self.vocab_size))]
        if rows < self.vocab_size:
            pieces.append(Piece(source, RowMap(0, ((self.vocab_size - rows, 0),))))
        return TargetTensor("per_layer_token_embd.weight", (self.vocab_size, length), tuple(pieces))

    def block(self, layer: Layer) -> Iterator[TargetTensor]:
        width, streams, rank = self.embedding_length, FIXED["altup_num_inputs"], FIXED["laurel_rank"]
        yield from super().block(layer)
        for name, origin, shape in (
            ("inp_gate", "per_layer_input_gate.weight", (self.layer_width, width)),
            ("proj", "per_layer_projection.weight", (width, self.layer_width)),
            ("post_norm", "post_per_layer_input_norm.weight", (width,)),
            ("altup_correct_coef", "altup.correction_coefs.weight", (streams, streams)),
            ("altup_correct_scale", "altup.correct_output_scale", (width,)),
            ("altup_predict_coef", "altup.prediction_coefs.weight", (streams * streams, streams)),
            ("altup_router", "altup.modality_router.weight", (streams, width)),
            ("altup_router_norm", "altup.router_norm.weight", (width,)),
            ("laurel_l", "laurel.linear_left.weight", (rank, width)),
            ("laurel_r", "laurel.linear_right.weight", (width, rank)),
            ("laurel_post_norm", "laurel.post_laurel_norm.weight", (width,)),
        ):
            yield self.tensor(f"{layer.target}.{name}.weight", f"{layer.source}.{origin}", shape)

    def attention(self, layer: Layer) -> Iterator[TargetTensor]:
        width, head_dim = self.embedding_length, self.head_dim
        query, key = self.heads * head_dim, self.kv_heads * head_dim
        for part, shape in (
            ("attn_q", (query, width)),
            ("attn_k", (key, width)),
            ("attn_v", (key, width)),
            ("attn_output", (width, query)),
            ("attn_q_norm", (head_dim,)),
            ("attn_k_norm", (head_dim,)),
        ):
            source = f"{self.source_name(part, self.holder(layer, part))}.weight"
            yield self.tensor(f"{layer.target}.{part}.weight", source, shape)

    def holder(self, layer: Layer, part: str) -> Layer:
        """The layer itself, or where one that shares keys and values was saved without its own, the layer that it
        shares with. llama.cpp never computes with them but requires them."""
        own = layer.number < CACHING_LAYERS or part not in ("attn_k", "attn_v", "attn_k_norm")
        if own or f"{self.source_name(part, layer)}.weight" in self.sources:
            return layer
        kind = ("full_attention", "sliding_attention")[self.windows[layer.number]]
        return self.layers[CACHE_OF[kind]]
