"""Gemma 3: norms on each query and key head, a rope of its own for layers with a window, no cap on attention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from converter.architectures.families.gemma.gemma2 import Gemma2
from converter.architectures.families.vision.vision_language import text_config
from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.parts.rope import Rope
from converter.architectures.parts.windows import FULL, WINDOW
from converter.architectures.target import TargetTensor
from converter.checkpoints.tensor import SourceTensor
from converter.errors import ArchitectureError
from converter.gguf.key_values import KeyValue, float32

#: For each layer type the field and the default of its rope's base.
BASES = {FULL: ("rope_theta", 1e6), WINDOW: ("rope_local_base_freq", 1e4)}


class Gemma3(Gemma2):
    classes = ("Gemma3ForCausalLM",)
    arch = "gemma3"
    defaults: ClassVar = {
        "vocab_size": 262208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "tie_word_embeddings": True,
    }
    skipped: ClassVar[tuple[str, ...]] = COMPUTED_BUFFERS
    norms_heads = True
    layers_of_27b: ClassVar[int | None] = 62

    @property
    def period(self) -> int:
        """Older files give the pattern by a number."""
        return self.config.integer("sliding_window_pattern") if "sliding_window_pattern" in self.config else 6

    def rope_of(self, layer_type: str) -> Rope:
        """The rope of a layer type in ``rope_parameters``, otherwise as files had it before transformers 5: the scaling
        is that of layers without a window, and each has a field for its base."""
        name, usual = BASES[layer_type]
        base = self.config.optional_positive(name)
        parameters = self.config.section("rope_parameters").section(layer_type)
        older = self.config.section("rope_scaling")
        if layer_type == FULL and any(older):
            parameters = older
        return Rope.of(self.config.with_fields(rope_theta=usual if base is None else base), parameters)

    @property
    def rope(self) -> Rope:
        """The rope of layers without a window."""
        return self.scaled(FULL, "default", "linear")

    @property
    def window_rope(self) -> Rope:
        return self.scaled(WINDOW, "default")

    @property
    def ropes(self) -> tuple[Rope, ...]:
        return (self.rope, self.window_rope) if any(self.windows) else (self.rope,)

    def scaled(self, layer_type: str, *allowed: str) -> Rope:
        rope = self.rope_of(layer_type)
        if rope.scaling not in allowed:
            raise ArchitectureError(
                f"config.json: rope scaling of {layer_type} is {rope.scaling!r}, but llama.cpp runs {self.arch} only "
                f"with {' or '.join(allowed)}"
            )
        return rope

    def window_key_values(self) -> list[KeyValue]:
        if not any(self.windows):
            return []
        return [*super().window_key_values(), float32(f"{self.arch}.rope.freq_base_swa", self.window_rope.theta)]

    def cap_key_values(self) -> list[KeyValue]:
        self.config.one_of("attn_logit_softcapping", None)
        if "final_logit_softcapping" not in self.config:
            return []
        cap = self.config.number("final_logit_softcapping")
        return [float32(f"{self.arch}.final_logit_softcapping", cap)]

    def tensors(self) -> Iterator[TargetTensor]:
        yield from self.with_output("model.", "lm_head")

    def with_output(self, prefix: str, output: str) -> Iterator[TargetTensor]:
        shape = (self.vocab_size, self.embedding_length)
        yield from self.model(prefix, shape)
        # A tied checkpoint may still hold an output matrix; transformers then uses it where it differs.
        if not self.config.flag("tie_word_embeddings") or f"{output}.weight" in self.sources:
            yield self.tensor("output.weight", f"{output}.weight", shape)

    def head_norms(self, target: str, source: str) -> Iterator[TargetTensor]:
        for name in "qk":
            yield self.norm(f"{target}.attn_{name}_norm", f"{source}.{name}_norm", self.head_dim)


class Gemma3Multimodal(Gemma3):
    """The text part of the multimodal checkpoint, whose fields stand in ``text_config``."""

    classes = ("Gemma3ForConditionalGeneration",)
    skipped: ClassVar[tuple[str, ...]] = (*COMPUTED_BUFFERS, r"(model\.)?(vision_tower|multi_modal_projector)\..*")

    def __init__(self, config: Mapping[str, Any], sources: Mapping[str, SourceTensor]) -> None:
        self.within = "text_config."
        super().__init__({**text_config(config), "tie_word_embeddings": config.get("tie_word_embeddings")}, sources)

    def warnings(self) -> list[str]:
        return [*super().warnings(), "the checkpoint's vision tower is left out: the file reads text only"]

    def tensors(self) -> Iterator[TargetTensor]:
        # The published files name the parts as the first releases of transformers did.
        if "language_model.model.embed_tokens.weight" in self.sources:
            yield from self.with_output("language_model.model.", "language_model.lm_head")
        else:
            yield from self.with_output("model.language_model.", "lm_head")
