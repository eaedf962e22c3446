"""The text part of a checkpoint that also sees or hears: converted by the text model's own family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from converter.architectures.family import COMPUTED_BUFFERS, Family
from converter.architectures.hyperparameters import Hyperparameters
from converter.architectures.target import TargetTensor
from converter.checkpoints.tensor import SourceTensor
from converter.gguf.key_values import KeyValue

#: How names of the decoder's tensors begin, and the output matrix's: as transformers has them in memory, as its first
#: releases had them, and as Qwen2-VL was published.
LAYOUTS = (
    ("model.language_model.", "lm_head"),
    ("language_model.model.", "language_model.lm_head"),
    ("model.", "lm_head"),
)

TIED = "tie_word_embeddings"


class Tying(Enum):
    """Who says whether embeddings are tied."""

    FIRST = "config.json, or else its text_config, where releases before transformers 5 wrote it"
    EITHER = "config.json or its text_config"
    OUTSIDE = "config.json, whatever its text_config says"

    def said(self, config: Mapping[str, Any], text: Mapping[str, Any], usual: bool) -> Any:
        """The field's value, ``usual`` where nobody says it."""
        said = [config.get(TIED)] if self is Tying.OUTSIDE else [config.get(TIED), text.get(TIED)]
        if self is Tying.EITHER and any(value is True for value in said):
            return True
        return next((value for value in said if value is not None), usual)


@dataclass(frozen=True)
class TextModel:
    """What a text model is converted by.

    Attributes:
        family: its family.
        defaults: what ``text_config`` may leave out beyond the family's own defaults: those of transformers' class.
    """

    family: type[Family]
    defaults: Mapping[str, Any] = field(default_factory=dict)


class TextPart(Family):
    """A class of models that also see or hear.

    Attributes:
        text: its text model; where there may be several, each by the ``model_type`` in ``text_config``.
        usual: that type where ``text_config`` has none.
        flat: the published config.json has the text model's fields beside the others, without ``text_config``.
        tying, tied: who says whether embeddings are tied, and the default.
        layouts: how the text model's names may begin, and the output matrix's.
        left_out: the parts that are skipped, in words.
    """

    text: ClassVar[TextModel | Mapping[str, TextModel]]
    usual: ClassVar[str] = ""
    flat: ClassVar[bool] = False
    tying: ClassVar[Tying] = Tying.FIRST
    tied: ClassVar[bool] = False
    layouts: ClassVar[tuple[tuple[str, str], ...]] = LAYOUTS
    skipped: ClassVar[tuple[str, ...]] = (
        *COMPUTED_BUFFERS,
        r"(model\.)?(visual|vision_tower|multi_modal_projector)\..*",
    )
    left_out: ClassVar[str] = "vision tower is"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.arch = (cls.text if isinstance(cls.text, TextModel) else cls.text[cls.usual]).family.arch

    def __init__(self, config: Mapping[str, Any], sources: Mapping[str, SourceTensor]) -> None:
        super().__init__(config, sources)
        text = text_config(config, flat=self.flat)
        within = "" if text is config else "text_config."
        model = self.text_model(Hyperparameters(text, {"model_type": self.usual}, within))
        # Either spelling, as the class reads it.
        tied = self.tying.said({TIED: self.config.optional_flag(TIED)}, text, self.tied)
        # A field of an older name would outdo what was found to hold.
        own = {name: value for name, value in text.items() if model.family.aliases.get(name) != TIED}
        missing = {name: value for name, value in model.defaults.items() if own.get(name) is None}
        fields = {"vision_config": config.get("vision_config"), **own, **missing, TIED: tied}
        here = (names for names in self.layouts if f"{names[0]}embed_tokens.weight" in sources)
        body, head = next(here, self.layouts[0])
        self._family = model.family(fields, sources, renamed={"model.": body, "lm_head": head}, within=within)
        self.arch = self._family.arch

    def text_model(self, text: Hyperparameters) -> TextModel:
        """What ``text_config`` names.

        Raises:
            ArchitectureError: a text model that is not converted in this class.
        """
        if isinstance(self.text, TextModel):
            return self.text
        kind = text.text("model_type")
        if kind not in self.text:
            raise text.refusal("model_type", f"but only {' or '.join(self.text)} is converted in this class")
        return self.text[kind]

    @property
    def family(self) -> Family:
        """The text model's family."""
        self._family.directory = self.directory
        return self._family

    @property
    def vocab_size(self) -> int:
        return self.family.vocab_size

    def warnings(self) -> list[str]:
        return [*self.family.warnings(), f"the checkpoint's {self.left_out} left out: the file reads text only"]

    def leaves_out(self, source: str) -> bool:
        return super().leaves_out(source) or self.family.leaves_out(source)

    def key_values(self) -> list[KeyValue]:
        return self.family.key_values()

    def tensors(self) -> Iterator[TargetTensor]:
        return self.family.tensors()


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
