"""The same run from YAML: validated keys, and refusals that say where in the file and what was meant."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from converter.errors import UsageError


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class ModelKwargs(Section):
    """How the source's weights are read."""

    torch_dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    trust_remote_code: bool = False


class ModelSection(Section):
    """Which model."""

    model_name: str
    tokenizer_name: str | None = None
    model_kwargs: ModelKwargs = Field(default_factory=ModelKwargs)


class Configuration(Section):
    """A conversion as a file.

    Attributes:
        model: directory of the checkpoint and how to read it.
        method: a name of ``convert methods``.
        output_path: the file to write, or a directory for it.
        output_format: the container.
        batch_size: windows of text at a time in a full verification.
        verbose: print every tensor, and tracebacks.
    """

    model: ModelSection
    method: str
    output_path: str | None = None
    output_format: Literal["gguf", "safetensors", "pytorch"] = "gguf"
    batch_size: PositiveInt = 1
    verbose: bool = False


def read_configuration(path: Path) -> Configuration:
    """Read and check a configuration file.

    Raises:
        UsageError: the file is missing or no YAML mapping; a key or a value is unknown (with the nearest valid one),
            missing or of the wrong kind, each with its place in the file.
    """
    import yaml

    from converter.recipes import find_method

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a mapping with model and method expected, {type(content).__name__} found")
    try:
        configuration = Configuration.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {describe(error.errors()[0])}") from None
    try:
        find_method(configuration.method)
    except UsageError as error:
        raise UsageError(f"{path}: method: {error}") from None
    return configuration


def describe(problem: Any) -> str:
    """One sentence for the first of pydantic's errors: the place, what was found, what was expected."""
    *parents, last = problem["loc"]
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        section: Any = Configuration
        for parent in parents:
            section = SECTIONS[str(parent)]
        return f"{place}: unknown key{nearest(str(last), list(section.model_fields))}"
    if problem["type"] == "missing":
        return f"{place}: missing; it is required"
    if problem["type"] == "literal_error":
        allowed = [choice.strip("'") for choice in problem["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return f"{place}: {problem['input']!r} is not a value{nearest(str(problem['input']), allowed)}"
    if problem["type"] == "model_type":
        return (
            f"{place}: {problem['input']!r} found; a mapping of {', '.join(SECTIONS[str(last)].model_fields)} expected"
        )
    return f"{place}: {problem['input']!r} found; {problem['msg'][0].lower()}{problem['msg'][1:]}"


#: Section that a key opens.
SECTIONS: dict[str, type[Section]] = {"model": ModelSection, "model_kwargs": ModelKwargs}


def nearest(word: str, valid: list[str]) -> str:
    """The rest of a refusal: the nearest valid name, or all of them."""
    near = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; valid: {', '.join(valid)}"
