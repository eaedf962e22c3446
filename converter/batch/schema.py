"""A batch as YAML: its keys, and refusals that say where in the file and what was meant."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt, ValidationError

from converter.config import ModelKwargs, Recipe, Section, nearest
from converter.errors import UsageError


class Choices(Section):
    """What may be said for all jobs, for a model, for a method or for one job; the later of these counts.

    Mappings (``model_kwargs``, ``recipe``) are completed key by key, everything else is replaced.

    Attributes:
        output: name of the output, below ``output_directory``, or a URL; fields in braces: ``{model}``, ``{method}``,
            ``{format}``, ``{suffix}`` (``.gguf``, ``-safetensors`` or ``-pytorch``).
        others: as in :class:`converter.config.Configuration` and :class:`converter.request.Request`.
    """

    output: str = "{model}-{method}{suffix}"
    output_format: Literal["gguf", "safetensors", "pytorch"] = "gguf"
    tokenizer_name: str | None = None
    model_kwargs: ModelKwargs = Field(default_factory=ModelKwargs)
    adapters: list[str] = Field(default_factory=list)
    pre: str | None = None
    imatrix: list[str] = Field(default_factory=list)
    calibrate: list[str] = Field(default_factory=list)
    recipe: Recipe = Field(default_factory=Recipe)
    allow_requantize: bool = False
    verify: Literal["none", "load", "full"] = "load"
    batch_size: PositiveInt = 1
    stream: bool = False
    overwrite: bool = False
    force: bool = False
    split_max_size: int | str | None = None
    split_max_tensors: PositiveInt | None = None
    modelfile: bool = False
    push_to_hub: str | None = None


class Model(Choices):
    """One of ``models``: a directory, a file, an id of the Hub or a URL, or a mapping with choices of its own.

    Attributes:
        model_name: where it is.
        name: what outputs are called after; by default the last part of ``model_name``.
    """

    model_name: str
    name: str | None = None


class NamedMethod(Choices):
    """One of ``methods``: a name of ``convert methods``, or a mapping with choices of its own.

    Attributes:
        method: the method.
        name: what outputs are called after; by default the method.
    """

    method: str
    name: str | None = None


class Pair(Section):
    """One of ``exclude``: names of a model and a method; without one of them, all."""

    model: str | None = None
    method: str | None = None


class FurtherJob(Choices):
    """One of ``jobs``: names of a model and a method of the lists, or others.

    Attributes:
        model: name of one of ``models``, or where another one is.
        method: name of one of ``methods``, or another method.
    """

    model: str
    method: str


def _mapping(key: str) -> BeforeValidator:
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


class Batch(Section):
    """A batch: every model by every method, without what is excluded, and further jobs.

    Attributes:
        output_directory: where all outputs go; made where it is missing.
        catalogue: the catalogue's file; by default in ``output_directory``.
        defaults: choices for all jobs.
        models: the models.
        methods: the methods.
        exclude: pairs that are left out.
        jobs: further jobs.
    """

    output_directory: str = "."
    catalogue: str | None = None
    defaults: Choices = Field(default_factory=Choices)
    models: list[Annotated[Model, _mapping("model_name")]] = Field(default_factory=list)
    methods: list[Annotated[NamedMethod, _mapping("method")]] = Field(default_factory=list)
    exclude: list[Pair] = Field(default_factory=list)
    jobs: list[FurtherJob] = Field(default_factory=list)


def read_batch(path: Path) -> Batch:
    """Read and check a batch file.

    Raises:
        UsageError: the file is missing or no YAML mapping; a key or a value is unknown (with the nearest valid one),
            missing or of the wrong kind, each with its place in the file.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UsageError(
            f"{path}: a mapping with models and methods, or jobs, expected, {type(content).__name__} found"
        )
    try:
        return Batch.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {describe(error.errors()[0])}") from None


def describe(problem: Any) -> str:
    """One sentence for one of pydantic's errors: the place, what was found, what was expected."""
    location = problem["loc"]
    place, found = place_of(location), problem["input"]
    match problem["type"]:
        case "extra_forbidden":
            return f"{place}: unknown key{nearest(str(location[-1]), sorted(section_at(location[:-1]).model_fields))}"
        case "missing":
            return f"{place}: missing; it is required"
        case "literal_error":
            allowed = [choice.strip("'") for choice in problem["ctx"]["expected"].replace(" or ", ", ").split(", ")]
            return f"{place}: {found!r} is not a value{nearest(str(found), allowed)}"
        case "model_type":
            return f"{place}: {found!r} found; a mapping of {', '.join(section_at(location).model_fields)} expected"
        case _:
            return f"{place}: {found!r} found; {problem['msg'][0].lower()}{problem['msg'][1:]}"


def place_of(location: tuple[str | int, ...]) -> str:
    """``models[0].recipe.pure``, as a person finds it."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def section_at(location: tuple[str | int, ...]) -> type[Section]:
    """The section that lies at a place of the file."""
    section: type[Section] = Batch
    for name in location:
        if isinstance(name, str) and name in section.model_fields:
            section = _section_in(section.model_fields[name].annotation) or section
    return section


def _section_in(annotation: Any) -> type[Section] | None:
    """The section that an annotation such as ``list[Annotated[Model, …]]`` speaks of."""
    if parts := typing.get_args(annotation):
        return next((found for part in parts if (found := _section_in(part))), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None
