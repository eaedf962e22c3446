"""Which family a config.json is of, by the class name in ``architectures``; for others, what it is and what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any

from converter.architectures.auto_classes import classes_of
from converter.architectures.family import COMPUTED_OTHERWISE, FAMILIES, Family
from converter.architectures.hyperparameters import Hyperparameters
from converter.errors import ArchitectureError
from converter.sources.source_file import quoted

ALL = "`convert families` lists those that are"

_TEXT = "run it with transformers, or convert the model that it was fine-tuned from"
_NO_TEXT = "only language models and text encoders are converted"

#: What names of classes tell of models that llama.cpp does not run: a pattern of the name, what such a model is, and
#: what to do.
KINDS: tuple[tuple[str, str, str], ...] = (
    (
        r"(Whisper|Musicgen|Bark|Encodec|Moshi|Moonshine|Voxtral|Vits|UniSpeech|WavLM|Hubert|Wav2Vec2|SEWD?(For|Model)).*"
        r"|.*(Speech|Audio|ASR|Asr|TTS|ForCTC|ForRNNT|ForTDT|ForXVector).*",
        "a model of speech or sound",
        f"{_NO_TEXT}; whisper.cpp has its own for Whisper",
    ),
    (
        r".*(UNet|Transformer[23]DModel|AutoencoderKL|VQModel|ControlNet|DiffusionPipeline).*",
        "a part of a diffusion model, which makes images",
        f"{_NO_TEXT}; stable-diffusion.cpp has one for these",
    ),
    (
        r".*For(Image|Video|ZeroShot|Semantic|Instance|Universal|Object|Depth|Keypoint|Pose|Normal)\w+"
        r"|.*(For(Segmentation|Detection|MaskGeneration|MaskedImageModeling)|VisionModel|Backbone)"
        r"|(CLIP|Siglip|Siglip2|ViT|DeiT|Swin|Beit|ConvNext|ResNet|Dinov2|DINOv3ViT|Sam|Sam2|OwlViT|Detr|Yolos)\w*Model\w*",
        "a model that looks at images",
        _NO_TEXT,
    ),
    (r".*For(TimeSeries\w+|Prediction|Regression)", "a model of time series", _NO_TEXT),
    (r".*(RewardModel|ForReward\w*|ForValue\w*)", "a reward model: it scores texts and writes none", _TEXT),
    (r".*ForTokenClassification", "a classifier of tokens: it labels words and writes none", _TEXT),
    (
        r".*(QuestionAnswering\w*|ForMultipleChoice|ForNextSentencePrediction)",
        "a model that picks answers from a text and writes none",
        _TEXT,
    ),
    (
        r".*Classif\w*",
        "a classifier: it labels texts and writes none",
        f"llama.cpp runs classifiers of {{}} only; {_TEXT}",
    ),
)

_HEADS = re.compile(r"(LMHeadModel|For\w+|TextModel|EncoderModel|Model)$")


def find_family(config: Mapping[str, Any], tensors: Collection[str] = ()) -> type[Family]:
    """The family of a config.json.

    Args:
        config: the parsed file.
        tensors: names of the checkpoint's tensors, which decide where the file alone does not.

    Raises:
        ArchitectureError: none of its ``architectures`` is supported; the message says what the model is, or which
            names are near, or why llama.cpp does not run this one as it is. Or it has none, and ``model_type`` does not
            tell which it is.
    """
    names = class_names(config, tensors)
    for name in names:
        if name in FAMILIES:
            return FAMILIES[name]
        if name in COMPUTED_OTHERWISE:
            raise ArchitectureError(
                f"config.json: architecture {name} cannot be represented: {COMPUTED_OTHERWISE[name]}"
            )
    raise unsupported(names)


def class_names(config: Mapping[str, Any], tensors: Collection[str] = ()) -> list[str]:
    """``architectures``, or what follows from ``model_type`` where there are none. Raises as :func:`find_family`."""
    fields = Hyperparameters(config)
    if "architectures" in fields and config["architectures"] != []:
        names = config["architectures"]
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise fields.refusal("architectures", "a list with the model's class name expected")
        return names
    if isinstance(diffusers := config.get("_class_name"), str):
        return [diffusers]
    line = '"architectures": ["{}"]'
    if "model_type" not in fields:
        raise ArchitectureError(
            "config.json: neither 'architectures' nor 'model_type' says what the model is; add its class, as in "
            + line.format("LlamaForCausalLM")
        )
    model_type = fields.text("model_type")
    classes = classes_of(model_type, tensors)
    if len(classes) == 1:
        return [*classes]
    if classes:
        lines = " or ".join(map(line.format, classes))
        raise ArchitectureError(
            f"config.json: no 'architectures', and 'model_type' {model_type!r} has several: add {lines}"
        )
    raise ArchitectureError(
        f"config.json: no 'architectures', and 'model_type' {quoted(model_type)} is none that is known here; add the "
        f"model's class, as in {line.format('LlamaForCausalLM')} ({ALL})"
    )


def unsupported(names: list[str]) -> ArchitectureError:
    """What a user reads whose model has only classes that are not known."""
    for name in names:
        for pattern, what, advice in KINDS:
            if re.fullmatch(pattern, name):
                told = advice.format(", ".join(classifiers()))
                return ArchitectureError(f"config.json: {quoted(name)[1:-1]} is {what}; {told}")
    listed = ", ".join(quoted(name)[1:-1] for name in names[:3])
    near = [found for name in names[:3] for found in nearest(name)][:3]
    advice = f"nearest: {', '.join(near)}; {ALL}" if near else ALL
    return ArchitectureError(f"config.json: architecture {listed} is not supported; {advice}")


def nearest(name: str) -> list[str]:
    """Names of supported classes that look like one, best first."""
    whole: dict[str, str] = {}
    stems: dict[str, str] = {}
    for known in FAMILIES:
        whole.setdefault(known.lower(), known)
        stems.setdefault(_HEADS.sub("", known).lower(), known)
    alike = difflib.get_close_matches(name.lower(), whole, n=3, cutoff=0.9)
    if alike:
        return [whole[near] for near in alike]
    return [stems[near] for near in difflib.get_close_matches(_HEADS.sub("", name).lower(), stems, n=3, cutoff=0.7)]


def classifiers() -> list[str]:
    """Kinds of models whose classifiers are supported."""
    ending = "ForSequenceClassification"
    return sorted(name.removesuffix(ending) for name in FAMILIES if name.endswith(ending))
