"""What makes two requests the same: the source's content, and every choice that decides the output's bytes."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from converter.catalogue.digests import input_files
from converter.option import UNSAID, Decides, decisions
from converter.request import VERIFY_LEVELS, Request

#: Packages whose version decides the output's bytes.
PACKAGES = ("converter", "gguf", "llama-cpp-python")
#: Packages that a full verification and the formats besides GGUF use.
REFERENCES = ("torch", "transformers")
#: How much each level of verification proves.
STRENGTH = {level: strength for strength, level in enumerate(VERIFY_LEVELS)}


@dataclass(frozen=True)
class Source:
    """Where the weights come from.

    Attributes:
        origin: what it is, for people and machines: ``hub:org/name@commit``, a URL or an absolute path.
        name: what the output's model name is made of.
        files: those of its files that are on this machine.
        elsewhere: a digest or an ETag by name of those that are not.
    """

    origin: str
    name: str
    files: tuple[Path, ...]
    elsewhere: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def local(cls, path: Path) -> Source:
        """A directory or a file on this machine."""
        absolute = path.resolve()
        return cls(str(absolute), absolute.name, input_files(path))


@dataclass(frozen=True)
class RequestKey:
    """One request as the catalogue compares it.

    Attributes:
        source: where the weights come from.
        output: absolute path of the file or directory.
        method: the method's name.
        output_format: the container.
        recipe: further choices that decide bytes, where they are not the default; JSON-serialisable.
        files: by the choice's name, the files that further choices name.
        verify: the level of verification.
    """

    source: Source
    output: Path
    method: str
    output_format: str
    recipe: Mapping[str, Any]
    files: Mapping[str, tuple[Path, ...]]
    verify: str


def key_of(choices: Mapping[str, Any], source: Source, output: Path) -> RequestKey:
    """The key of a request.

    Args:
        choices: arguments of ``converter.convert`` by name; what is absent has its default. Files of the Hub or of a
            URL are those that they were brought to.
        source: where the weights come from.
        output: the file or directory to write.
    """
    files: dict[str, tuple[Path, ...]] = {}
    recipe: dict[str, Any] = {"name": source.name}
    for name, (decides, default) in decisions(Request).items():
        value: Any = choices.get(name)
        if value in UNSAID or value == default:
            continue
        if decides is Decides.CONTENT:
            paths = [value] if isinstance(value, str | Path) else value
            files[name] = tuple(file for path in paths for file in input_files(Path(path)))
        elif decides is Decides.BYTES:
            recipe[name] = _plain(value)
    return RequestKey(
        source=source,
        output=output.absolute(),
        method=choices["method"].lower(),
        output_format=choices.get("output_format") or "gguf",
        recipe=recipe,
        files=files,
        verify=choices.get("verify") or "load",
    )


def _plain(value: Any) -> Any:
    """A choice as JSON has it; of a dataclass what is not the default."""
    if dataclasses.is_dataclass(value):
        fields = {item.name: (getattr(value, item.name), item.default) for item in dataclasses.fields(value)}
        return {name: _plain(given) for name, (given, default) in fields.items() if given != default}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return value if isinstance(value, int | float | bool | None) else str(value)


def versions(key: RequestKey) -> dict[str, str]:
    """Versions of the packages that a request uses."""
    references = REFERENCES if key.verify == "full" or key.output_format != "gguf" else ()
    return {name: importlib.metadata.version(name) for name in (*PACKAGES, *references)}
