"""An adapter's directory, PEFT's or MLX's: its configuration, and its tensors by the module that each belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from converter.adapters.config import LoraConfig, parse_config
from converter.adapters.mlx import WEIGHTS as MLX_WEIGHTS
from converter.adapters.mlx import is_mlx, mlx_parts, parse_mlx_config
from converter.checkpoints import pytorch, safetensors
from converter.checkpoints.directory import ADAPTER_CONFIG
from converter.checkpoints.files import Files
from converter.checkpoints.floats import STORED_FLOATS
from converter.checkpoints.names import without_wrappers
from converter.checkpoints.safetensors import SafetensorsTensor
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
    """An adapter, its headers read, told as PEFT tells it.

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
            f"{directory}: has no {ADAPTER_CONFIG}; the directory of an adapter of PEFT or MLX expected, with it and "
            f"{WEIGHTS[0]} or {MLX_WEIGHTS}"
        )
    config_file = files.open(ADAPTER_CONFIG)
    fields = read_json_object(config_file)
    config_file.close()
    mlx = is_mlx(fields)
    config = (parse_mlx_config if mlx else parse_config)(config_file.path, fields)
    wanted = (MLX_WEIGHTS,) if mlx else WEIGHTS
    name = next((name for name in wanted if name in files.names), None)
    if name is None:
        raise CheckpointError(f"{directory}: has no {' and no '.join(wanted)}; download the adapter again")
    file = files.open(name)
    tensors = without_wrappers((pytorch if name == WEIGHTS[1] else safetensors).read_tensors(file))
    file.close()
    for key, tensor in tensors.items():
        if tensor.dtype not in STORED_FLOATS or not tensor.nbytes:
            raise CheckpointError(
                f"{file.path}: {key} is {tensor.dtype} {list(tensor.shape)}, numbers of one of "
                f"{', '.join(STORED_FLOATS)} expected"
            )
    modules, replaced, bases = (*mlx_parts(tensors), {}) if mlx else peft_parts(tensors)
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


def peft_parts(
    tensors: Mapping[str, SafetensorsTensor],
) -> tuple[Mapping[str, Mapping[str, SourceTensor]], dict[str, SourceTensor], dict[str, SourceTensor]]:
    """Tensors of PEFT by module, those that replace the base's, and those that stand below an adapted module.

    Raises:
        CheckpointError: a part of an adapter of a kind that is not merged.
    """
    modules: dict[str, dict[str, SourceTensor]] = {}
    replaced: dict[str, SourceTensor] = {}
    bases: dict[str, SourceTensor] = {}
    for key, tensor in tensors.items():
        name = key.removeprefix("base_model.").removeprefix("model.") if key.startswith("base_model.") else key
        for pattern, part in _PARTS:
            if match := pattern.fullmatch(name):
                modules.setdefault(match[1], {})[part.format(*match.groups())] = tensor
                break
        else:
            if ".lora_" in name:
                raise CheckpointError(
                    f"{tensor.file.path}: {key} is not part of any known adapter format; use PEFT to merge it"
                )
            if ".original_module." in name:
                continue
            plain = re.sub(r"\.modules_to_save(\.default)?(?=\.)", "", name)
            below = re.sub(r"\.base_layer(?=\.(weight|bias)$)", "", plain)
            (bases if below != plain else replaced)[below] = tensor
    return modules, replaced, bases
