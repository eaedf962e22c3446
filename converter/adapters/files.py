"""A PEFT adapter's directory: its configuration, and its tensors by the module that each belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from converter.adapters.config import ADAPTER_CONFIG, LoraConfig, parse_config
from converter.checkpoints import pytorch, safetensors
from converter.checkpoints.files import Files
from converter.checkpoints.floats import STORED_FLOATS
from converter.checkpoints.names import without_wrappers
from converter.checkpoints.tensor import SourceTensor
from converter.errors import CheckpointError
from converter.sources.source_file import FileIdentity, SourceFile, read_json_object

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

_PARTS = (
    (re.compile(r"(.+)\.lora_(A|B)(?:\.default)?\.(weight|bias)"), "lora_{1}.{2}"),
    (re.compile(r"(.+)\.lora_embedding_(A|B)(?:\.default)?"), "lora_embedding_{1}"),
    (re.compile(r"(.+)\.(lora_magnitude_vector)(?:\.default)?(?:\.weight)?"), "{1}"),
    (re.compile(r"(.+)\.token_adapter\.(trainable_tokens_delta)(?:\.default)?"), "{1}"),
)
"""What a key of the file can be: a pattern of the module's name and the part's, and how the part is called here."""


@dataclass(frozen=True)
class Adapter:
    """A PEFT adapter, its headers read.

    Attributes:
        directory: where it lies, as given.
        config: its configuration.
        modules: by module's name in the model, the parts that it adds: ``lora_A.weight`` (r, in),
            ``lora_B.weight`` (out, r), ``lora_B.bias`` (out,), ``lora_embedding_A`` (r, rows), ``lora_embedding_B``
            (columns, r), ``lora_magnitude_vector`` (out,), ``trainable_tokens_delta`` (tokens, columns).
        replaced: by tensor's name in the model, tensors that are there instead of the base's.
        bases: the same for those that an adapted module was trained on, below its LoRA.
        files: its files' identities.
        opened: its files.
        nbytes: bytes of its tensors.
    """

    directory: Path
    config: LoraConfig
    modules: Mapping[str, Mapping[str, SourceTensor]]
    replaced: Mapping[str, SourceTensor]
    bases: Mapping[str, SourceTensor]
    files: tuple[FileIdentity, ...]
    opened: tuple[SourceFile, ...]
    nbytes: int


def open_adapter(directory: Path, elsewhere: Mapping[str, SourceFile] = MappingProxyType({})) -> Adapter:
    """Read an adapter's configuration and headers.

    Args:
        directory: where it lies.
        elsewhere: files that belong to it and lie somewhere else, by their names in it.

    Raises:
        CheckpointError: no adapter, a damaged one, or one of a kind that cannot be merged.
    """
    directory = Path(directory)
    files = Files.of(directory, elsewhere) if directory.is_dir() else Files(directory, elsewhere, frozenset(elsewhere))
    if ADAPTER_CONFIG not in files.names:
        raise CheckpointError(
            f"{directory}: has no {ADAPTER_CONFIG}; the directory of a PEFT adapter expected, with it and {WEIGHTS[0]}"
        )
    config_file = files.open(ADAPTER_CONFIG)
    config = parse_config(config_file.path, read_json_object(config_file))
    config_file.close()
    name = next((name for name in WEIGHTS if name in files.names), None)
    if name is None:
        raise CheckpointError(f"{directory}: has no {' and no '.join(WEIGHTS)}; download the adapter again")
    file = files.open(name)
    tensors = without_wrappers((safetensors if name == WEIGHTS[0] else pytorch).read_tensors(file))
    file.close()
    modules: dict[str, dict[str, SourceTensor]] = {}
    replaced: dict[str, SourceTensor] = {}
    bases: dict[str, SourceTensor] = {}
    for key, tensor in tensors.items():
        if tensor.dtype not in STORED_FLOATS or not tensor.nbytes:
            raise CheckpointError(
                f"{file.path}: {key} is {tensor.dtype} {list(tensor.shape)}, numbers of one of "
                f"{', '.join(STORED_FLOATS)} expected"
            )
        name = key.removeprefix("base_model.").removeprefix("model.") if key.startswith("base_model.") else key
        for pattern, part in _PARTS:
            if match := pattern.fullmatch(name):
                modules.setdefault(match[1], {})[part.format(*match.groups())] = tensor
                break
        else:
            if ".lora_" in name:
                raise CheckpointError(
                    f"{file.path}: {key} is no part of an adapter that is known; use PEFT to merge it"
                )
            if ".original_module." in name:
                continue
            plain = re.sub(r"\.modules_to_save(\.default)?(?=\.)", "", name)
            below = re.sub(r"\.base_layer(?=\.(weight|bias)$)", "", plain)
            (bases if below != plain else replaced)[below] = tensor
    if not modules and not replaced:
        raise CheckpointError(f"{file.path}: holds no adapter's tensors (lora_A, lora_B); download it again")
    return Adapter(
        directory,
        config,
        modules,
        replaced,
        bases,
        (config_file.identity, file.identity),
        (config_file, file),
        sum(tensor.nbytes for tensor in tensors.values()),
    )
