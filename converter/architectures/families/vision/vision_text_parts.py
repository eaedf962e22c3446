"""The text parts of LLaVA, Idefics3 and SmolVLM, InternVL, LFM2-VL and EXAONE 4.5, with their vision towers left out.

Most of these classes take text models of several families, which ``model_type`` in ``text_config`` names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from converter.architectures.families.exaone.exaone4 import Exaone4
from converter.architectures.families.lfm2 import Lfm2
from converter.architectures.families.mistral.mistral import Mistral
from converter.architectures.families.qwen.qwen2 import Qwen2
from converter.architectures.families.qwen.qwen3 import Qwen3
from converter.architectures.families.qwen.qwen_moe import Qwen3Moe
from converter.architectures.families.vision.vision_language import VisionLanguage, of_text_type, text_config
from converter.architectures.target import TargetTensor
from converter.checkpoints.tensor import SourceTensor

#: What files of these models leave out of ``text_config``, as transformers' classes of the text models have it.
LLAMA: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
}
MISTRAL = {**LLAMA, **Mistral.defaults, "intermediate_size": 14336}
QWEN2 = {**LLAMA, **Qwen2.defaults, "vocab_size": 151936, "intermediate_size": 22016}
QWEN3 = {**QWEN2, **Qwen3.defaults}
QWEN3_MOE = {
    **{name: value for name, value in QWEN2.items() if name != "max_window_layers"},
    **Qwen3Moe.defaults,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 24,
}


class TextPart(VisionLanguage):
    """A class whose subclasses convert its text models.

    Attributes:
        text_types: the ``model_type`` of the text models that are converted here.
        usual: the ``model_type`` where ``text_config`` has none.
    """

    text_types: ClassVar[tuple[str, ...]] = ()
    usual: ClassVar[str]

    def __new__(cls, config: Mapping[str, Any], sources: Mapping[str, SourceTensor]) -> TextPart:
        families = {name: family for family in (cls, *cls.__subclasses__()) for name in family.text_types}
        return object.__new__(of_text_type(config, families, cls.usual))


class EitherTied(VisionLanguage):
    """Embeddings are tied where config.json or its ``text_config`` says so."""

    def __init__(self, config: Mapping[str, Any], sources: Mapping[str, SourceTensor]) -> None:
        name = "tie_word_embeddings"
        either = any(fields.get(name) is True for fields in (config, text_config(config, flat=self.flat)))
        super().__init__({**config, name: True} if either else config, sources)


class TiedOutside(VisionLanguage):
    """Embeddings are tied where config.json itself says so, whatever its ``text_config`` says."""

    def __init__(self, config: Mapping[str, Any], sources: Mapping[str, SourceTensor]) -> None:
        name = "tie_word_embeddings"
        said = config.get(name)
        super().__init__({**config, name: self.tied if said is None else said}, sources)


class Llava(EitherTied, TextPart):
    """LLaVA and what was published as such, Pixtral 12B among them."""

    classes: ClassVar[tuple[str, ...]] = ("LlavaForConditionalGeneration",)
    defaults: ClassVar = LLAMA
    text_types = ("llama",)
    usual = "llama"


class LlavaMistral(Llava, Mistral):
    defaults: ClassVar = MISTRAL
    text_types = ("mistral",)


class LlavaQwen2(Llava, Qwen2):
    defaults: ClassVar = QWEN2
    text_types = ("qwen2",)


class Idefics3(TextPart):
    """Idefics3 and SmolVLM, whose text model is Llama."""

    classes = ("Idefics3ForConditionalGeneration", "SmolVLMForConditionalGeneration")
    defaults: ClassVar = LLAMA
    skipped: ClassVar[tuple[str, ...]] = (*VisionLanguage.skipped, r"model\.(vision_model|connector)\..*")
    text_types = ("llama",)
    usual = "llama"

    def __init__(self, config: Mapping[str, Any], sources: Mapping[str, SourceTensor]) -> None:
        super().__init__(config, sources)
        self.decoder = "model.text_model."


class InternVL(TiedOutside, TextPart):
    """InternVL 3 and 3.5 as transformers' own class has them."""

    classes: ClassVar[tuple[str, ...]] = ("InternVLForConditionalGeneration",)
    arch = "qwen2"
    tied = True
    usual = "qwen2"


class InternVLQwen2(InternVL, Qwen2):
    defaults: ClassVar = QWEN2
    text_types = ("qwen2",)


class InternVLQwen3(InternVL, Qwen3):
    arch = "qwen3"
    defaults: ClassVar = QWEN3
    text_types = ("qwen3",)


class InternVLQwen3Moe(InternVL, Qwen3Moe):  # type: ignore[misc]
    arch = "qwen3moe"
    defaults: ClassVar = QWEN3_MOE
    text_types = ("qwen3_moe",)


class InternVLLlama(InternVL):
    arch = "llama"
    defaults: ClassVar = LLAMA
    text_types = ("llama",)


class Lfm2VL(TiedOutside, TextPart, Lfm2):
    classes = ("Lfm2VlForConditionalGeneration",)
    tied = True
    defaults: ClassVar = {
        **Lfm2.defaults,
        "vocab_size": 65536,
        "hidden_size": 2560,
        "intermediate_size": 12288,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    }
    text_types = ("lfm2",)
    usual = "lfm2"

    def __init__(self, config: Mapping[str, Any], sources: Mapping[str, SourceTensor]) -> None:
        # ``tie_embedding`` is the field's older name, of which the text model's own ties nothing either.
        text = {name: value for name, value in text_config(config).items() if name != "tie_embedding"}
        older = config.get("tie_embedding")
        tied = config.get("tie_word_embeddings") if older is None else older
        super().__init__({**config, "text_config": text, "tie_word_embeddings": tied}, sources)

    def tensors(self) -> Iterator[TargetTensor]:
        # Lfm2 says the names as they are without a vision model.
        for target in super().tensors():
            pieces = (replace(piece, source=self.here(piece.source)) for piece in target.pieces)
            yield replace(target, pieces=tuple(pieces))

    def source(self, name: str, shape: tuple[int, ...] | None) -> SourceTensor:
        return super().source(self.here(name), shape)

    def here(self, name: str) -> str:
        """The name in this checkpoint of a tensor of the text model alone."""
        return name if name in self.sources else name.replace("model.", self.decoder, 1)


class Exaone45(TextPart, Exaone4):
    """EXAONE 4.5: EXAONE 4 with layers that predict several tokens ahead, which transformers does not run either."""

    classes = ("Exaone4_5_ForConditionalGeneration",)
    defaults: ClassVar = {
        **Exaone4.defaults,
        "vocab_size": 102400,
        "hidden_size": 4096,
        "intermediate_size": 16384,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    }
    skipped: ClassVar[tuple[str, ...]] = (*VisionLanguage.skipped, r"mtp\..*")
    #: The first of them is what transformers' class had before it had EXAONE 4's.
    text_types = ("exaone4_5_text", "exaone4")
    usual = "exaone4"
