"""A conversion as YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveInt

from converter.config.sections import Section, read_section
from converter.errors import UsageError
from converter.outputs import parse_size

if TYPE_CHECKING:
    from converter.recipes import Overrides


class ModelKwargs(Section):
    """How the source's weights are read."""

    torch_dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    trust_remote_code: bool = False


class ModelSection(Section):
    """Which model."""

    model_name: str
    tokenizer_name: str | None = None
    model_kwargs: ModelKwargs = Field(default_factory=ModelKwargs)


class Recipe(Section):
    """What to decide instead of the method, tensor by tensor; the fields of ``converter.recipes.Overrides``."""

    tensor_types: dict[str, str] = Field(default_factory=dict)
    output_type: str | None = None
    embedding_type: str | None = None
    leave_output: bool = False
    pure: bool = False
    include_weights: list[str] = Field(default_factory=list)
    exclude_weights: list[str] = Field(default_factory=list)
    override_kv: list[str] = Field(default_factory=list)
    prune_layers: list[int] = Field(default_factory=list)

    def overrides(self, options: Mapping[str, Any]) -> Overrides:
        """This recipe with the command line's options before it.

        Raises:
            UsageError: a type, an expression or a value that is none.
        """
        from converter.recipes import Overrides

        typed = [_assignment(text) for text in options["tensor_type"]]
        layers = _numbers(options["prune_layers"]) if options["prune_layers"] else self.prune_layers
        return Overrides(
            tensor_types=(*typed, *self.tensor_types.items()),
            output_type=options["output_type"] or self.output_type,
            embedding_type=options["embedding_type"] or self.embedding_type,
            leave_output=options["leave_output"] or self.leave_output,
            pure=options["pure"] or self.pure,
            include_weights=options["include_weights"] or tuple(self.include_weights),
            exclude_weights=options["exclude_weights"] or tuple(self.exclude_weights),
            override_kv=(*self.override_kv, *options["override_kv"]),
            prune_layers=tuple(layers),
        )


def _assignment(text: str) -> tuple[str, str]:
    pattern, equals, name = text.rpartition("=")
    if not (pattern and equals and name):
        raise UsageError(f"--tensor-type {text!r} is not REGEX=TYPE")
    return pattern, name


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--prune-layers {text!r} is not a list of block numbers such as 3,4,5") from None


class Choices(Section):
    """What may be said of any conversion; the fields of :class:`converter.request.Request` of the same names."""

    output_format: Literal["gguf", "safetensors", "pytorch"] = "gguf"
    adapters: list[str] = Field(default_factory=list)
    pre: str | None = None
    imatrix: list[str] = Field(default_factory=list)
    calibrate: list[str] = Field(default_factory=list)
    recipe: Recipe = Field(default_factory=Recipe)
    allow_requantize: bool = False
    split_max_size: int | str | None = None
    split_max_tensors: PositiveInt | None = None
    modelfile: bool = False
    push_to_hub: str | None = None
    verify: Literal["none", "load", "full"] = "load"
    batch_size: PositiveInt = 1
    stream: bool = False
    overwrite: bool = False
    force: bool = False

    @property
    def split_bytes(self) -> int | None:
        """``split_max_size`` as a number; UsageError where it is no size."""
        return None if self.split_max_size is None else parse_size(self.split_max_size)


class Configuration(Choices):
    """A conversion as a file.

    Attributes:
        model: which model, and how to read it.
        method: a name of ``convert methods``.
        output_path: the file or directory to write.
        catalogue: the SQLite file where the result is recorded.
        verbose: print every tensor, and tracebacks.
    """

    model: ModelSection
    method: str
    output_path: str | None = None
    catalogue: str | None = None
    verbose: bool = False

    def choices(self) -> dict[str, Any]:
        """Arguments of ``converter.convert`` by name, but for the recipe and the model's ``model_kwargs``.

        Raises:
            UsageError: ``split_max_size`` is no size.
        """
        said = self.model_dump(exclude={"model", "output_path", "recipe", "batch_size", "verbose"})
        return {
            **said,
            "model": self.model.model_name,
            "tokenizer": self.model.tokenizer_name,
            "output": self.output_path,
            "split_max_size": self.split_bytes,
            "trust_remote_code": self.model.model_kwargs.trust_remote_code,
        }


def read_configuration(path: Path) -> Configuration:
    """Read and check a configuration file.

    Raises:
        UsageError: the file is missing or no YAML mapping; a key or a value is unknown (with the nearest valid one),
            missing or of the wrong kind, each with its place in the file.
    """
    from converter.formats import find_format, find_method

    configuration = read_section(path, Configuration, "model and method")
    try:
        find_method(find_format(configuration.output_format), configuration.method)
    except UsageError as error:
        raise UsageError(f"{path}: method: {error}") from None
    return configuration


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe; UsageError as :func:`read_configuration`."""
    return read_section(path, Recipe, "keys of a recipe")
