"""What tensors are called: what tools put before or into every name is left away, what belongs to no model is left out.

Everything that is known about the names of weights, whatever the model, stands in the tables here; what a family's own
tensors are called stands in its family.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from converter.checkpoints.safetensors import SafetensorsTensor
from converter.errors import CheckpointError, UsageError
from converter.sources.source_file import quoted

Tensors = Mapping[str, SafetensorsTensor]

INSERTED: Mapping[str, str] = {
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "Lightning Fabric",
}
"""Parts that wrappers put into names, at the beginning or anywhere inside, each with the wrapper."""

WRAPPERS = ("module", "base_model.model", "pretrained_model", "0.auto_model", "auto_model")
"""Beginnings that wrappers give to every name, whatever they wrap."""

EMBEDDINGS = (
    "model.embed_tokens", "model.tok_embeddings", "model.word_embeddings", "model.embeddings.tok_embeddings",
    "transformer.wte", "transformer.word_embeddings", "transformer.embedding.word_embeddings",
    "gpt_neox.embed_in", "backbone.embeddings", "backbone.embedding", "shared",
    "bert.embeddings.word_embeddings", "roberta.embeddings.word_embeddings", "distilbert.embeddings.word_embeddings",
)  # fmt: skip
"""Modules of input embeddings by their full names in text models: what stands before one of these is a wrapper's."""

MULTIMODAL_EMBEDDINGS = (
    "model.language_model.embed_tokens", "language_model.model.embed_tokens", "model.text_model.embed_tokens",
    "model.language_model.tok_embeddings", "language_model.model.tok_embeddings",
)  # fmt: skip
"""The same in multimodal models."""

NAMED_AS_PARTS = ("qwen3_5_text", "qwen3_5_moe_text")
"""``model_type`` of text models whose releases have a multimodal model's names."""

OUTPUTS = ("lm_head.", "embed_out.", "output.")
"""Beginnings of the names of output matrices, which a wrapper of the rest may leave alone."""

_VISION = r"(.*\.)?(vision_tower|vision_model|visual|multi_modal_projector|mm_projector|audio_tower|audio_projector|"
_VISION += r"embed_vision|embed_audio)\..*"


@dataclass(frozen=True)
class LeftOut:
    """Tensors that no text model computes with.

    Attributes:
        what: what they are, in the plural.
        pattern: matches their full names.
        fits: whether such a tensor is one; a parameter may have the same name.
    """

    what: str
    pattern: re.Pattern[str]
    fits: Callable[[SafetensorsTensor], bool] = lambda _: True


LEFT_OUT = (
    LeftOut(
        "heads of reinforcement learning",
        re.compile(r"(.*\.)?(v_head|value_head|reward_head|critic_head|ilql_heads|frozen_head)\..*"),
    ),
    LeftOut("state of layers of Transformer Engine", re.compile(r"(.*\.)?_extra_state(\..*)?")),
    LeftOut(
        "counters of batch normalization",
        re.compile(r"(.*\.)?num_batches_tracked"),
        lambda tensor: tensor.row_length * tensor.rows == 1,
    ),
    LeftOut(
        "tables that every runtime computes",
        re.compile(
            r"(.*\.)?(rotary_emb|rotary_pos_emb|rotary_embedding|rotary_embs|rope)\."
            r"((original_|local_|global_)?inv_freq|cos_cached|sin_cached|freqs)"
            r"|(.*\.)?position_ids|(.*\.)?embeddings\.token_type_ids"
        ),
    ),
    LeftOut(
        "attention masks",
        re.compile(r"(.*\.)?(attn|attention|self_attention)\.(bias|masked_bias|causal_mask)|(.*\.)?causal_mask"),
        # A projection's bias may be called the same, and is a vector.
        lambda tensor: tensor.rows * tensor.row_length == 1 or len(tensor.shape) == 4 or tensor.dtype in ("BOOL", "U8"),
    ),
)
"""What transformers leaves out too, of any model."""

_TOLD = 2
"""Names of a kind that are given in a notice."""


def recognized(
    config: Mapping[str, Any], tensors: Tensors, leave_out: Sequence[str] = ()
) -> tuple[dict[str, SafetensorsTensor], list[str]]:
    """The tensors under the names that the model's class gives them, without what belongs to no model.

    Args:
        config: ``config.json``, parsed.
        tensors: by the names in the files.
        leave_out: regular expressions of whole names, as a model's class gives them, that the user does without.

    Returns:
        The tensors in their order, and what was done, a sentence each.

    Raises:
        CheckpointError: two names become one.
        UsageError: ``leave_out`` has no regular expression, or one that no tensor's name matches.
    """
    notices: list[str] = []
    multimodal = any(isinstance(config.get(f"{part}_config"), dict) for part in ("text", "vision", "audio", "thinker"))
    tensors, found = _without_inserted(tensors)
    notices += found
    tensors, found = _without_foreign(tensors, multimodal=multimodal)
    notices += found
    tensors, found = _without_prefix(tensors, config, multimodal=multimodal)
    notices += found
    tensors, found = _without_unwanted(tensors, leave_out)
    return dict(tensors), notices + found


def belongs_to_no_model(name: str) -> bool:
    """Whether a tensor's name is one of those in ``LEFT_OUT``."""
    return any(kind.pattern.fullmatch(name) for kind in LEFT_OUT)


def without_wrappers(tensors: Tensors) -> dict[str, SafetensorsTensor]:
    """The tensors of any state dict without what wrappers put into and before all names. Raises as the above."""
    tensors, _ = _without_inserted(tensors)
    while tensors and (
        prefix := next((f"{one}." for one in WRAPPERS if all(name.startswith(f"{one}.") for name in tensors)), "")
    ):
        tensors = _renamed(tensors, partial(_without, prefix))
    return dict(tensors)


def _without(prefix: str, name: str) -> str:
    return name.removeprefix(prefix)


def _renamed(tensors: Tensors, rename: Callable[[str], str]) -> dict[str, SafetensorsTensor]:
    changed: dict[str, SafetensorsTensor] = {}
    for name, tensor in tensors.items():
        new = rename(name)
        if new in changed:
            raise CheckpointError(
                f"{tensor.file.path}: tensors {changed[new].name} and {name} would both be {new}; keep one of them"
            )
        changed[new] = tensor
    return {name: dataclasses.replace(tensor, name=name) for name, tensor in changed.items()}


def _without_inserted(tensors: Tensors) -> tuple[Tensors, list[str]]:
    pattern = re.compile(rf"(?:(?<=^)|(?<=\.))({'|'.join(INSERTED)})\.")
    found = {match[1] for name in tensors for match in pattern.finditer(name)}
    if not found:
        return tensors, []
    parts = ", ".join(f"{part!r} ({INSERTED[part]})" for part in sorted(found))
    return _renamed(tensors, lambda name: pattern.sub("", name)), [f"names of tensors are read without {parts}"]


def _without_foreign(tensors: Tensors, *, multimodal: bool) -> tuple[Tensors, list[str]]:
    kinds = [*LEFT_OUT, *([] if multimodal else [LeftOut("parts of a multimodal model", re.compile(_VISION))])]
    left: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        for kind in kinds:
            if kind.pattern.fullmatch(name) and kind.fits(tensor):
                left.setdefault(kind.what, []).append(name)
                break
    out = {name for names in left.values() for name in names}
    notices = [f"{what} are left out, as transformers does: {_listed(names)}" for what, names in left.items()]
    return {name: tensor for name, tensor in tensors.items() if name not in out}, notices


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return ", ".join(names[:_TOLD]) + more


def _without_prefix(tensors: Tensors, config: Mapping[str, Any], *, multimodal: bool) -> tuple[Tensors, list[str]]:
    """Names without what stands before all of them, and a text part's names as a text model has them."""

    def everywhere(prefix: str) -> bool:
        return all(name.startswith((prefix, *OUTPUTS)) for name in tensors)

    def shortened(prefix: str, by: str = "") -> None:
        nonlocal tensors
        tensors = _renamed(tensors, lambda name: by + name.removeprefix(prefix) if name.startswith(prefix) else name)
        how = f"with {by!r} instead of {prefix!r}" if by else f"without {prefix!r}"
        notices.append(f"names of tensors are read {how} before them")

    notices: list[str] = []
    if prefix := _wrapper(tensors, MULTIMODAL_EMBEDDINGS if multimodal else EMBEDDINGS):
        if everywhere(prefix):
            shortened(prefix)
    else:
        for wrapper in WRAPPERS:
            if tensors and all(name.startswith(f"{wrapper}.") for name in tensors):
                shortened(f"{wrapper}.")
    if not multimodal and config.get("model_type") not in NAMED_AS_PARTS:
        # The text part of a multimodal model (language_model, text_model, …), whose class says model.
        part = _wrapper(tensors, ("embed_tokens",))
        if (
            part not in ("", "model.")
            and everywhere(part)
            and any(name.startswith(f"{part}layers.") for name in tensors)
        ):
            shortened(part, "model.")
        if "embed_tokens.weight" in tensors and any(name.startswith(OUTPUTS[0]) for name in tensors):
            # transformers' base_model_prefix: weights of the model below the head, saved without its name.
            tensors = _renamed(tensors, lambda name: name if name.startswith(OUTPUTS) else f"model.{name}")
            notices.append("names of tensors are read with 'model.' before them")
    return tensors, notices


def _wrapper(tensors: Tensors, embeddings: Sequence[str]) -> str:
    """What stands before the name of the one input embedding; "" where nothing does, or there is none."""
    before = {
        name.removesuffix(f"{embedding}.weight")
        for name in tensors
        for embedding in embeddings
        if name == f"{embedding}.weight" or name.endswith(f".{embedding}.weight")
    }
    return before.pop() if len(before) == 1 else ""


def _without_unwanted(tensors: Tensors, leave_out: Sequence[str]) -> tuple[Tensors, list[str]]:
    left: list[str] = []
    for expression in leave_out:
        try:
            pattern = re.compile(expression)
        except re.error as error:
            raise UsageError(f"--leave-out {quoted(expression)} is no regular expression: {error}") from None
        found = [name for name in tensors if pattern.fullmatch(name)]
        if not found:
            raise UsageError(f"--leave-out {quoted(expression)} matches the whole name of no tensor of the checkpoint")
        left += found
    notices = [f"left out as asked: {_listed(left)}"] if left else []
    return {name: tensor for name, tensor in tensors.items() if name not in left}, notices
