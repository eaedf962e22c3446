"""The text part of a checkpoint that also reads images: Llama's relatives under other names, their fields nested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from converter.architectures.family import COMPUTED_BUFFERS
from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.parts.decoder import Llama
from converter.checkpoints.tensor import SourceTensor

T = TypeVar("T")

#: How names of the decoder's tensors begin, and the output matrix's: as transformers has them in memory, as its first
#: releases had them, and as Qwen2-VL was published.
LAYOUTS = (
    ("model.language_model.", "lm_head"),
    ("language_model.model.", "language_model.lm_head"),
    ("model.", "lm_head"),
)


class VisionLanguage(Llama):
    """Stands before the text model's own family among a class's bases.

    Attributes:
        flat: the published config.json has the text model's fields beside the vision model's, without ``text_config``.
        tied: transformers' default of ``tie_word_embeddings``.
    """

    flat: ClassVar[bool] = False
    tied: ClassVar[bool] = False
    skipped: ClassVar[tuple[str, ...]] = (
        *COMPUTED_BUFFERS,
        r"(model\.)?(visual|vision_tower|multi_modal_projector)\..*",
    )

    def __init__(self, config: Mapping[str, Any], sources: Mapping[str, SourceTensor]) -> None:
        text = text_config(config, flat=self.flat)
        # Releases before transformers 5 wrote it into text_config.
        said = (fields.get("tie_word_embeddings") for fields in (config, text))
        tied = next((value for value in said if value is not None), self.tied)
        self.within = "" if text is config else "text_config."
        super().__init__({**text, "tie_word_embeddings": tied}, sources)
        here = (names for names in LAYOUTS if f"{names[0]}embed_tokens.weight" in sources)
        self.decoder, self.head_name = next(here, LAYOUTS[0])

    def warnings(self) -> list[str]:
        return [*super().warnings(), "the checkpoint's vision tower is left out: the file reads text only"]


def of_text_type(config: Mapping[str, Any], known: Mapping[str, T], usual: str) -> T:
    """What stands for the text model's kind, its ``model_type`` in ``text_config``.

    Args:
        config: the whole file.
        known: by ``model_type``.
        usual: the ``model_type`` of a text model that has none.

    Raises:
        ArchitectureError: another kind.
    """
    text = Hyperparameters(text_config(config), {"model_type": usual}, "text_config.")
    kind = text.text("model_type")
    if kind not in known:
        raise text.refusal("model_type", f"but only {' or '.join(known)} is converted in this class")
    return known[kind]


def text_config(config: Mapping[str, Any], *, flat: bool = False) -> Mapping[str, Any]:
    """The text model's fields: ``text_config``, or with ``flat`` the whole where there is none.

    Raises:
        ArchitectureError: ``text_config`` is no object.
    """
    text = config.get("text_config")
    if text is None and flat:
        return config
    if not isinstance(text, dict):
        raise Hyperparameters(config).refusal("text_config", "an object with the text model's fields expected")
    return text
