"""YAML files as sections with checked keys, and refusals that say where in the file and what was meant."""

from __future__ import annotations

import re
import typing
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from converter.errors import UsageError
from converter.option import nearest


class Section(BaseModel):
    """A mapping that takes no other keys than its own, and no value of another kind."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


S = TypeVar("S", bound=Section)


#: What a file is that has a key of another kind of file, and what to do with it.
_OTHERWISE = {
    "architectures": "is a checkpoint's config.json; give its directory as --model instead",
    "model_type": "is a checkpoint's config.json; give its directory as --model instead",
    "models": "is a batch of several models; run convert batch {path}",
    "model": "is a single conversion; run convert --config {path}",
}


def read_section(path: Path, section: type[S], expected: str) -> S:
    """A YAML file as a section, checked.

    Args:
        path: the file.
        section: what it holds.
        expected: what its mapping is to hold, in words.

    Raises:
        UsageError: the file is missing or no YAML mapping; a key or a value is unknown (with the nearest valid one),
            missing or of the wrong kind, each with its place in the file.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from None
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}{_cause(text)}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a mapping with {expected} expected, {type(content).__name__} found{_cause(text)}")
    for key, sentence in _OTHERWISE.items():
        if key in content and key not in section.model_fields:
            raise UsageError(f"{path}: {sentence.format(path=path)}")
    try:
        return section.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {describe(error.errors()[0], section)}") from None


def _cause(text: str) -> str:
    """Why a file is no YAML mapping, where that is easily seen, and what to do."""
    if text.lstrip().lower().startswith(("<!doctype", "<html")):
        return "; it is an HTML page, such as a login or an error; download the file itself"
    if tabbed := next((number for number, line in enumerate(text.splitlines(), 1) if re.match(r" *\t", line)), 0):
        return f"; line {tabbed} is indented with a tab, where YAML wants spaces"
    if not text.strip():
        return "; the file is empty; configs/single.yaml and configs/batch.yaml are examples"
    return ""


def describe(problem: Any, root: type[Section]) -> str:
    """One sentence for one of pydantic's errors: the place, what was found, what was expected."""
    location = problem["loc"]
    place, found = place_of(location), problem["input"]
    match problem["type"]:
        case "extra_forbidden":
            return (
                f"{place}: unknown key{nearest(str(location[-1]), list(section_at(location[:-1], root).model_fields))}"
            )
        case "missing":
            return f"{place}: missing; it is required"
        case "literal_error":
            allowed = [choice.strip("'") for choice in problem["ctx"]["expected"].replace(" or ", ", ").split(", ")]
            return f"{place}: {found!r} is not a value{nearest(str(found), allowed)}"
        case "model_type":
            return (
                f"{place}: {found!r} found; a mapping of {', '.join(section_at(location, root).model_fields)} expected"
            )
        case _:
            return f"{place}: {found!r} found; {problem['msg'][0].lower()}{problem['msg'][1:]}"


def place_of(location: tuple[str | int, ...]) -> str:
    """``models[0].recipe.pure``, as a person finds it."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def section_at(location: tuple[str | int, ...], root: type[Section]) -> type[Section]:
    """The section that lies at a place of the file."""
    section = root
    for name in location:
        if isinstance(name, str) and name in section.model_fields:
            section = _section_in(section.model_fields[name].annotation) or section
    return section


def _section_in(annotation: Any) -> type[Section] | None:
    """The section that an annotation such as ``list[Annotated[Model, …]]`` speaks of."""
    if parts := typing.get_args(annotation):
        return next((found for part in parts if (found := _section_in(part))), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None
