"""Classes of models that also see or hear, each with its text model and what is left out.

A class's text model may be of several families, which ``model_type`` in ``text_config`` tells.
"""

from __future__ import annotations

from typing import Any, ClassVar

from converter.architectures.families.ernie.paddleocr import PaddleOCRText
from converter.architectures.families.exaone.exaone4 import Exaone4
from converter.architectures.families.gemma.gemma3 import Gemma3
from converter.architectures.families.gemma.gemma3n import Gemma3n
from converter.architectures.families.gemma.gemma4 import Gemma4, Gemma4Unified
from converter.architectures.families.glm.glm4v import Glm4VMoeText, Glm4VText, GlmOcrText
from converter.architectures.families.lfm2 import Lfm2
from converter.architectures.families.llama.llama import Llama
from converter.architectures.families.llama.llama4 import Llama4
from converter.architectures.families.mistral.ministral3 import Ministral3
from converter.architectures.families.mistral.mistral import Mistral, MistralSmall3
from converter.architectures.families.qwen.qwen2 import Qwen2
from converter.architectures.families.qwen.qwen3 import Qwen3
from converter.architectures.families.qwen.qwen3_5 import Qwen35, Qwen35Moe
from converter.architectures.families.qwen.qwen_moe import Qwen3Moe
from converter.architectures.families.qwen.qwen_vl import Qwen2VLText, Qwen3VLMoeText, Qwen3VLText
from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.parts.text_part import TextModel, TextPart, Tying

#: What files leave out of ``text_config``, as transformers' class of that text model has it.
LLAMA: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
MISTRAL = {**LLAMA, "intermediate_size": 14336}
QWEN2 = {**LLAMA, "vocab_size": 151936, "intermediate_size": 22016}
QWEN3_MOE = {**QWEN2, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 24}
LFM2 = {**LLAMA, "vocab_size": 65536, "hidden_size": 2560, "intermediate_size": 12288}
EXAONE4 = {**LLAMA, "vocab_size": 102400, "intermediate_size": 16384}


class Llava(TextPart):
    """LLaVA and what was published as such, Pixtral 12B among them."""

    classes = ("LlavaForConditionalGeneration",)
    text: ClassVar = {
        "llama": TextModel(Llama, LLAMA),
        "mistral": TextModel(Mistral, MISTRAL),
        "qwen2": TextModel(Qwen2, QWEN2),
    }
    usual = "llama"
    tying = Tying.EITHER


class Idefics3(TextPart):
    """Idefics3 and SmolVLM."""

    classes = ("Idefics3ForConditionalGeneration", "SmolVLMForConditionalGeneration")
    text: ClassVar = {"llama": TextModel(Llama, LLAMA)}
    usual = "llama"
    layouts = (("model.text_model.", "lm_head"),)
    skipped = (*TextPart.skipped, r"model\.(vision_model|connector)\..*")


class InternVL(TextPart):
    """InternVL 3 and 3.5 as transformers' own class has them."""

    classes = ("InternVLForConditionalGeneration",)
    text: ClassVar = {
        "qwen2": TextModel(Qwen2, QWEN2),
        "qwen3": TextModel(Qwen3, QWEN2),
        "qwen3_moe": TextModel(Qwen3Moe, QWEN3_MOE),
        "llama": TextModel(Llama, LLAMA),
    }
    usual = "qwen2"
    tying = Tying.OUTSIDE
    tied = True


class Lfm2VL(TextPart):
    classes = ("Lfm2VlForConditionalGeneration",)
    text: ClassVar = {"lfm2": TextModel(Lfm2, LFM2)}
    usual = "lfm2"
    aliases: ClassVar = {"tie_embedding": "tie_word_embeddings"}
    tying = Tying.OUTSIDE
    tied = True


class Exaone45(TextPart):
    """EXAONE 4.5; its further layers predict several tokens ahead, which transformers does not run either."""

    classes = ("Exaone4_5_ForConditionalGeneration",)
    #: The first is what transformers' class had before it had EXAONE 4's.
    text: ClassVar = dict.fromkeys(("exaone4_5_text", "exaone4"), TextModel(Exaone4, EXAONE4))
    usual = "exaone4"
    skipped = (*TextPart.skipped, r"mtp\..*")


class Mistral3Multimodal(TextPart):
    """Mistral Small 3.1 and 3.2, and Ministral 3, which has the same class name outside."""

    classes = ("Mistral3ForConditionalGeneration",)
    text: ClassVar = {"mistral": TextModel(MistralSmall3), "ministral3": TextModel(Ministral3)}
    usual = "mistral"
    tied = True


class Llama4Multimodal(TextPart):
    classes = ("Llama4ForConditionalGeneration",)
    text = TextModel(Llama4)
    skipped = (*COMPUTED_BUFFERS, r"(vision_model|multi_modal_projector)\..*")


class Gemma3Multimodal(TextPart):
    classes = ("Gemma3ForConditionalGeneration",)
    text = TextModel(Gemma3)
    tying = Tying.OUTSIDE
    tied = True
    skipped = (*COMPUTED_BUFFERS, r"(model\.)?(vision_tower|multi_modal_projector)\..*")


class Gemma3nMultimodal(TextPart):
    classes = ("Gemma3nForConditionalGeneration",)
    text = TextModel(Gemma3n)
    tying = Tying.OUTSIDE
    tied = True
    skipped = (*COMPUTED_BUFFERS, r"(model\.)?(vision_tower|audio_tower|embed_vision|embed_audio)\..*")
    left_out = "vision and audio towers are"


class Gemma4Multimodal(TextPart):
    classes = ("Gemma4ForConditionalGeneration",)
    text = TextModel(Gemma4)
    tying = Tying.OUTSIDE
    tied = True
    skipped = (
        *COMPUTED_BUFFERS,
        r"model\.(vision_tower|audio_tower|embed_vision|embed_audio|vision_embedder)\..*",
    )
    left_out = "parts for pictures and sound are"


class Gemma4UnifiedMultimodal(Gemma4Multimodal):
    classes = ("Gemma4UnifiedForConditionalGeneration",)
    text = TextModel(Gemma4Unified)


class Qwen2VL(TextPart):
    """Qwen2-VL, and Qwen2.5-VL with another vision tower beside the same text model."""

    classes = ("Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration")
    text = TextModel(Qwen2VLText)
    flat = True


class Qwen3VL(TextPart):
    classes = ("Qwen3VLForConditionalGeneration",)
    text = TextModel(Qwen3VLText)


class Qwen3VLMoe(TextPart):
    classes = ("Qwen3VLMoeForConditionalGeneration",)
    text = TextModel(Qwen3VLMoeText)


class Qwen35Multimodal(TextPart):
    classes = ("Qwen3_5ForConditionalGeneration",)
    text = TextModel(Qwen35)


class Qwen35MoeMultimodal(TextPart):
    classes = ("Qwen3_5MoeForConditionalGeneration",)
    text = TextModel(Qwen35Moe)


class Glm4V(TextPart):
    """GLM-4.1V."""

    classes = ("Glm4vForConditionalGeneration",)
    text = TextModel(Glm4VText)
    tying = Tying.EITHER


class GlmOcr(TextPart):
    classes = ("GlmOcrForConditionalGeneration",)
    text = TextModel(GlmOcrText)
    tying = Tying.EITHER


class Glm4VMoe(TextPart):
    """GLM-4.5V."""

    classes = ("Glm4vMoeForConditionalGeneration",)
    text = TextModel(Glm4VMoeText)
    tying = Tying.EITHER


class PaddleOCRVL(TextPart):
    classes = ("PaddleOCRVLForConditionalGeneration",)
    text = TextModel(PaddleOCRText)
    flat = True
    tying = Tying.EITHER
    tied = True
    skipped = (*TextPart.skipped, r"(model\.projector|mlp_AR)\..*")
