"""A conversion's words and options: which model, by which methods, to which files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from converter.cli.group import COMMANDS
from converter.cli.words import command_meant
from converter.errors import UsageError
from converter.formats import FORMATS, find_format, find_method
from converter.recipes.method_names import spelled
from converter.sources.address import exists


def settle_words(
    words: Sequence[str], model: str | None, methods: Sequence[str], output_format: str
) -> tuple[str | None, list[str]]:
    """The model and the methods, of those given as words and those given as options.

    Args:
        words: what stands without an option: the model if ``--model`` is not given, then methods.
        model: ``--model``.
        methods: each ``--method``, names with commas between them.
        output_format: the container.

    Raises:
        UsageError: a word that is none of these, with what it may mean.
    """
    rest = list(words)
    if model is None and rest:
        if is_method(rest[0]) and len(rest) > 1 and not is_method(rest[1]):
            rest[0], rest[1] = rest[1], rest[0]
        model = rest.pop(0)
        check_model(model)
    if rest and not methods and model is not None and rest[0].endswith(".gguf") and not exists(rest[0]):
        by = f" {rest[1]}" if len(rest) > 1 else ""
        raise UsageError(f"{rest[0]}: the output takes an option: convert {model}{by} --output {rest[0]}")
    for word in rest:
        if not all(is_method(name) for name in split(word)):
            if exists(word) or "/" in word:
                raise UsageError(
                    f"{word}: a second model? A conversion reads one; convert batch converts several, and --output "
                    "says where to write"
                )
            check_methods(split(word), output_format)
            raise UsageError(f"{word}: is not a method; convert methods lists them")
    return model, [name for given in (*rest, *methods) for name in split(given)]


def split(given: str) -> list[str]:
    """Names between commas."""
    return [name for name in (part.strip() for part in given.split(",")) if name]


def is_method(word: str) -> bool:
    """Whether any format has such a method."""
    return not exists(word) and any(spelled(word) in find_format(name).methods for name in FORMATS)


def check_model(word: str) -> None:
    """Refuse a first word that can be no model and looks like something else.

    Raises:
        UsageError: says what it may have been.
    """
    if exists(word) or "/" in word or ":" in word:
        return
    if all(is_method(name) for name in split(word)):
        raise UsageError(f"{word} is a method; which model? convert MODEL {word}")
    if meant := command_meant(word, COMMANDS):
        raise UsageError(f"{word} is neither a command nor a model here; did you mean {meant}?")


def check_methods(names: Sequence[str], output_format: str) -> list[tuple[str, str]]:
    """Methods by the names that they were asked for by, each once.

    Raises:
        UsageError: the format has no such method.
    """
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(find_method(find_format(output_format), name), name)
    return [(name, method) for method, name in found.items()]


def outputs_of(output: str | None, model: str, methods: Sequence[str], output_format: str) -> list[str | None]:
    """Where the output of each method goes.

    Args:
        output: ``--output``: a file, a directory, or a name with fields in braces as a batch has them.
        model: the model.
        methods: the methods by their own names.
        output_format: the container.

    Raises:
        UsageError: one file is named for several outputs.
    """
    if output is None:
        return [None] * len(methods)
    from converter.pipeline.accepted import output_name

    container, name = find_format(output_format), output_name(model)
    if "{" in output and not exists(output):
        from converter.batch.expansion import fill

        fields = {"model": name, "format": output_format, "suffix": container.suffix}
        made = [fill(output, {**fields, "method": method}) for method in methods]
        if len(set(made)) < len(made):
            raise UsageError(f"--output {output} is the same name for {len(made)} methods; put {{method}} into it")
        return [*made]
    folder = output.endswith("/") or ("://" not in output and Path(output).is_dir())
    if folder and (len(methods) > 1 or (output.endswith("/") and not container.directory)):
        return [f"{output.rstrip('/')}/{name}-{method}{container.suffix}" for method in methods]
    if len(methods) > 1:
        raise UsageError(
            f"--output {output} is one name for {len(methods)} methods; give a directory such as models/, or a "
            "name with {method} in it"
        )
    return [output]
