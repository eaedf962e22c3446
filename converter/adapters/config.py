"""``adapter_config.json``: how strongly each product of a LoRA adapter counts, and what in it cannot be merged.

Field names and what they mean: ``LoraConfig`` of PEFT 0.21.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.errors import CheckpointError
from converter.sources.source_file import quoted

#: Fields that make something else than ``W + scale * B A`` of an adapter, and what they make of it.
OTHER_KINDS: Mapping[str, str] = {
    "layer_replication": "repeats layers of the base",
    "use_qalora": "averages groups of inputs (QALoRA)",
    "arrow_config": "chooses among adapters for each token (Arrow)",
    "use_bdlora": "is block-diagonal (BD-LoRA)",
    "monteclora_config": "samples its weights (MonteCLoRA)",
    "kasa_config": "changes the base's own weights (KaSA)",
}
#: What ``init_lora_weights`` may be without the base's weights having been changed before the training.
PLAIN_STARTS = ("true", "false", "none", "gaussian", "eva", "orthogonal", "mica")
#: Beginnings of those that took a part out of the base's weights first.
CHANGED_STARTS = ("pissa", "corda", "olora", "lora_ga", "loftq")


@dataclass(frozen=True)
class LoraConfig:
    """What an adapter's configuration says of its tensors.

    Attributes:
        path: the file.
        r: rank of a module that no pattern matches.
        alpha: strength of a module that no pattern matches.
        rank_pattern, alpha_pattern: by regular expression, of the modules whose name it matches.
        rslora: the scale is alpha / sqrt(rank) instead of alpha / rank.
        conv1d: ``fan_in_fan_out``: weights lie as (in, out).
        tied: ``ensure_weight_tying``: the output matrix follows the embedding.
        token_indices: rows of embeddings that were trained; by module, or of the input embedding.
        base: ``base_model_name_or_path``, or nothing.
        invocation_tokens: tokens from which on the adapter is active (aLoRA), or nothing.
    """

    path: Path
    r: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    rslora: bool
    conv1d: bool
    tied: bool
    token_indices: Mapping[str, list[int]] | list[int] | None
    base: str
    invocation_tokens: tuple[int, ...]

    def rank(self, module: str) -> int:
        """Rank of a module (or parameter), by its full name in the model."""
        return self.rank_pattern.get(matching(self.rank_pattern, module), self.r)

    def scale(self, module: str) -> float:
        """What the product of a module's matrices is multiplied by."""
        alpha, rank = self.alpha_pattern.get(matching(self.alpha_pattern, module), self.alpha), self.rank(module)
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank


def matching(patterns: Mapping[str, Any], module: str) -> str:
    """The first pattern that a module's name, or an end of it after a dot, matches; the name itself if none does."""
    return next((pattern for pattern in patterns if re.match(rf"(.*\.)?({pattern})$", module)), module)


def parse_config(path: Path, fields: Mapping[str, Any]) -> LoraConfig:
    """Check the fields of an ``adapter_config.json``.

    Raises:
        CheckpointError: no LoRA, one that cannot be merged, or a malformed field; the message says which.
    """

    def refused(name: str, expected: str) -> CheckpointError:
        return CheckpointError(f"{path}: {name!r} is {quoted(fields.get(name))}, {expected}")

    if fields.get("peft_type") != "LORA":
        raise refused("peft_type", "only 'LORA' can be merged; merge it with PEFT (merge_and_unload) where it can")
    for name, kind in OTHER_KINDS.items():
        if fields.get(name):
            raise refused(name, f"such an adapter {kind} and cannot be merged tensor by tensor; use PEFT to merge it")
    start = str(fields.get("init_lora_weights", True)).lower()
    if start.startswith(CHANGED_STARTS):
        raise refused(
            "init_lora_weights",
            "which took a part out of the base's weights before the training, so adding the adapter to the untouched "
            "base would be wrong; save it again with path_initial_model_for_weight_conversion",
        )
    if start not in PLAIN_STARTS:
        raise refused("init_lora_weights", f"one of {', '.join(PLAIN_STARTS)} expected")

    def positive(name: str, value: Any, kind: type = int) -> Any:
        fits = isinstance(value, int | float) and isinstance(value, int | kind) and not isinstance(value, bool)
        if not fits or not 0 < value < 2**31:
            raise CheckpointError(f"{path}: {name!r} is {quoted(value)}, a positive number expected")
        return value

    def pattern(name: str, kind: type) -> dict[str, Any]:
        found = fields.get(name) or {}
        if not isinstance(found, dict):
            raise refused(name, "an object of regular expressions expected")
        for expression, value in found.items():
            try:
                re.compile(rf"(.*\.)?({expression})$")
            except re.error as error:
                raise CheckpointError(
                    f"{path}: {name!r}: {quoted(expression)} is no regular expression: {error}"
                ) from None
            positive(name, value, kind)
        return found

    tokens, invocation = fields.get("trainable_token_indices"), fields.get("alora_invocation_tokens") or []
    lists = list(tokens.values()) if isinstance(tokens, dict) else [] if tokens is None else [tokens]
    if not all(are_tokens(one) for one in lists):
        raise refused("trainable_token_indices", "a list of token numbers, or one for each module, expected")
    if not are_tokens(invocation):
        raise refused("alora_invocation_tokens", "a list of token numbers expected")
    base = fields.get("base_model_name_or_path")
    return LoraConfig(
        path=path,
        r=positive("r", fields.get("r", 8)),
        alpha=float(positive("lora_alpha", fields.get("lora_alpha", 8), float)),
        rank_pattern=pattern("rank_pattern", int),
        alpha_pattern=pattern("alpha_pattern", float),
        rslora=bool(fields.get("use_rslora")),
        conv1d=bool(fields.get("fan_in_fan_out")),
        tied=bool(fields.get("ensure_weight_tying")),
        token_indices=tokens,
        base=base if isinstance(base, str) else "",
        invocation_tokens=tuple(invocation),
    )


def are_tokens(value: Any) -> bool:
    """Whether a value is a list of different token numbers."""
    return (
        isinstance(value, list)
        and all(type(token) is int and 0 <= token < 2**31 for token in value)
        and len(set(value)) == len(value)
    )
