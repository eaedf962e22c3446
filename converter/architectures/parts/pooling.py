"""How a sentence-transformers checkpoint makes one embedding of a text's many: ``{arch}.pooling_type``.

Such a checkpoint lists its modules in ``modules.json``; the folder of the pooling module has a ``config.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gguf import GGUFValueType

from converter.errors import ArchitectureError, CheckpointError
from converter.gguf.key_values import KeyValue, array, uint32
from converter.sources.source_file import JSON_LIMIT, SourceFile, parse_json, quoted, read_json_object

MODULES = "modules.json"

#: llama.cpp's pooling types (``llama_pooling_type``) by the names in the older and in the newer form of the module's
#: configuration: a flag for each mode, or one field.
FLAGS = {"pooling_mode_mean_tokens": 1, "pooling_mode_cls_token": 2, "pooling_mode_lasttoken": 3}
MODES = {"mean": 1, "cls": 2, "lasttoken": 3}

#: The pooling type of what scores texts.
RANK = 4

#: Modules that a GGUF file or those who run it take care of; embeddings are normalised on demand.
RUN = ("Transformer", "Pooling", "Normalize")


def pooling_key_values(arch: str, directory: Path | None) -> list[KeyValue]:
    """The pooling type of a sentence-transformers checkpoint; nothing where the checkpoint is none.

    Args:
        arch: llama.cpp's architecture, the prefix of the key.
        directory: where the checkpoint lies.

    Raises:
        ArchitectureError: a module or a pooling mode that llama.cpp does not run.
        CheckpointError: a file is missing or damaged.
    """
    if directory is None or not (directory / MODULES).is_file():
        return []
    folders = []
    for module in read_modules(directory / MODULES):
        kind = kind_of(module)
        if kind not in RUN:
            raise ArchitectureError(
                f"{directory / MODULES}: module {quoted(module.get('path'))} is {quoted(module.get('type'))}, but "
                f"llama.cpp runs only {', '.join(RUN)}; take it out of {MODULES} to convert what comes before it"
            )
        if kind == "Pooling":
            folders.append(module.get("path"))
    return [uint32(f"{arch}.pooling_type", pooling_type(directory, folder)) for folder in folders[:1]]


def rank_key_values(arch: str, labels: list[str]) -> list[KeyValue]:
    """Keys of a file that gives a text a score for each label."""
    return [
        uint32(f"{arch}.pooling_type", RANK),
        array(f"{arch}.classifier.output_labels", labels, GGUFValueType.STRING),
    ]


def kind_of(module: Mapping[str, Any]) -> str:
    """Name of a module's class, of an entry of ``modules.json``."""
    return str(module.get("type")).rpartition(".")[2]


def read_modules(path: Path) -> list[dict[str, Any]]:
    """The list in ``modules.json``."""
    file = SourceFile(path)
    if file.size > JSON_LIMIT:
        raise CheckpointError(f"{path}: is {file.size} bytes long, expected at most {JSON_LIMIT}")
    text = file.read_bytes(0, file.size)
    file.close()
    modules = parse_json(text, str(path))
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise CheckpointError(f"{path}: holds {quoted(modules)}, expected a list of modules; download it again")
    return modules


def configuration(directory: Path, folder: Any, holds: str) -> tuple[Path, dict[str, Any]]:
    """A module's ``config.json`` and what is in it.

    Args:
        directory: of ``modules.json``.
        folder: the module's path in it.
        holds: what the file is read for.
    """
    inside = isinstance(folder, str) and (directory / folder).resolve().is_relative_to(directory.resolve())
    if not inside or not folder:
        raise CheckpointError(
            f"{directory / MODULES}: a module's path is {quoted(folder)}, expected a folder beside the file"
        )
    path = directory / folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; {MODULES} says that it holds {holds}; download it")
    file = SourceFile(path)
    config = read_json_object(file)
    file.close()
    return path, config


def pooling_type(directory: Path, folder: Any) -> int:
    """llama.cpp's number of the one mode that a pooling module is set to."""
    path, config = configuration(directory, folder, "the pooling mode")
    chosen = sorted(name for name, value in config.items() if name.startswith("pooling_mode_") and value is True)
    mode: Any = chosen[0] if len(chosen) == 1 else chosen
    if not chosen:
        given = config.get("pooling_mode")
        mode = given[0] if isinstance(given, list) and len(given) == 1 else given
    found = {**FLAGS, **MODES}.get(mode) if isinstance(mode, str) else None
    if found is None:
        raise ArchitectureError(
            f"{path}: the pooling mode is {quoted(mode)}, but llama.cpp runs only one of {', '.join(MODES)}"
        )
    return found
