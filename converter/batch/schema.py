"""A batch as YAML."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field

from converter.config.schema import KEYS, section
from converter.config.sections import Section, read_section
from converter.option import Declared, Option

#: Prefix of keys that lie in the model's section of a single conversion's file.
_OF_MODEL = "model."
_PER_JOB = {key: found for key, found in KEYS.items() if found.option.per_job}
#: The output's name in a batch: below ``output_directory``, or a URL, with fields in braces: ``{model}``,
#: ``{method}``, ``{format}``, ``{suffix}`` (``.gguf``, ``-safetensors`` or ``-pytorch``).
OUTPUT = Declared("output", Option("The output's name."), "{model}-{method}{suffix}", required=False)
#: What may be said of a job, by its key.
JOB_KEYS = {
    **{key: found for key, found in _PER_JOB.items() if not key.startswith(_OF_MODEL)},
    "output": OUTPUT,
    **{key.removeprefix(_OF_MODEL): found for key, found in _PER_JOB.items() if key.startswith(_OF_MODEL)},
}
if TYPE_CHECKING:
    _Keys = Section
else:
    _Keys = section("Keys", JOB_KEYS)


class JobChoices(_Keys):
    """What may be said for all jobs, for a model, for a method or for one job; the later of these counts.

    Mappings (``model_kwargs``, ``recipe``) are completed key by key, everything else is replaced.
    """


class Model(JobChoices):
    """One of ``models``: a directory, a file, an id of the Hub or a URL, or a mapping with choices of its own.

    Attributes:
        model_name: where it is.
        name: what outputs are called after; by default the last part of ``model_name``.
    """

    model_name: str
    name: str | None = None


class NamedMethod(JobChoices):
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


class FurtherJob(JobChoices):
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
    defaults: JobChoices = Field(default_factory=JobChoices)
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
    return read_section(path, Batch, "models and methods, or jobs,")
