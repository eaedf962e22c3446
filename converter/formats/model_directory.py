"""The files of a model's directory that hold no weights: its configuration, tokenizer, chat template and licence."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.gguf.key_values import KeyValue, string

CONFIG = "config.json"

#: What is copied: patterns of names, or of paths, within a checkpoint's directory.
TOKENIZER_FILES = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "*.model",
    "*.tiktoken", "tekken.json", "chat_template*", "additional_chat_templates/*.jinja",
)  # fmt: skip
MODEL_FILES = (
    "generation_config.json", "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json",
    "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json", "[0-9]_*/config.json",
    "[0-9]_*/model.safetensors",
    "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*",
)  # fmt: skip
CODE_FILES = ("*.py",)

_DTYPES = ("dtype", "torch_dtype")
#: What a source says of its own quantization.
_QUANTIZATION = ("quantization_config", "compression_config", "quantization")


@dataclass(frozen=True)
class ModelDirectory:
    """A model's directory but for its weights.

    Attributes:
        config: the text of ``config.json``.
        copied: the files that are copied, by their path within the directory.
    """

    config: str
    copied: Mapping[str, Path]

    @classmethod
    def of(cls, source: Path, tokenizer: Path, config: Mapping[str, Any], *, code: bool) -> ModelDirectory:
        """What a checkpoint's directory becomes.

        Args:
            source: the checkpoint's directory.
            tokenizer: directory of the tokenizer's files; nothing else is taken from it.
            config: what ``config.json`` will hold.
            code: copy the checkpoint's own Python files too, which its configuration may refer to.
        """
        copied = matching(source, MODEL_FILES + (CODE_FILES if code else ()))
        copied |= matching(tokenizer, TOKENIZER_FILES)
        kept = dict(config) if code else without_local_code(config)
        return cls(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", copied)

    @property
    def identity(self) -> tuple[KeyValue, ...]:
        """Each file with its text or SHA-256, for a plan's metadata."""
        pairs = [string(CONFIG, self.config)]
        for name, path in self.copied.items():
            with path.open("rb") as file:
                pairs.append(string(name, hashlib.file_digest(file, "sha256").hexdigest()))
        return tuple(pairs)

    def write(self, directory: Path) -> None:
        """Write all of it to an existing directory."""
        for name, path in self.copied.items():
            (directory / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, directory / name)
        (directory / CONFIG).write_text(self.config, encoding="utf-8")


def matching(directory: Path, patterns: Iterable[str]) -> dict[str, Path]:
    """The files of a directory that match one of the patterns, by their path in it."""
    found = (path for pattern in patterns for path in sorted(directory.glob(pattern)))
    return {path.relative_to(directory).as_posix(): path for path in found if path.is_file()}


def new_config(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """A checkpoint's configuration for weights of another type, without what it says of its quantization.

    Args:
        config: ``config.json`` of the source.
        dtype: torch's name of the weights' type; replaces the one of each part of the model.
    """
    kept = {name: value for name, value in config.items() if name not in _QUANTIZATION}
    renewed = _with_dtype(kept, dtype)
    return renewed if any(name in renewed for name in _DTYPES) else renewed | {"dtype": dtype}


def _with_dtype(config: dict[str, Any], dtype: str) -> dict[str, Any]:
    return {
        name: dtype
        if name in _DTYPES and isinstance(value, str)
        else _with_dtype(value, dtype)
        if isinstance(value, dict) and name.endswith("_config")
        else value
        for name, value in config.items()
    }


def without_local_code(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that refers to no Python file beside it; ``repository--module.Class`` is elsewhere."""
    kept = dict(config)
    if isinstance(references := kept.pop("auto_map", None), dict):
        remote = {name: value for name, value in references.items() if isinstance(value, str) and "--" in value}
        kept |= {"auto_map": remote} if remote else {}
    return kept
