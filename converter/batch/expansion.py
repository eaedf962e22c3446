"""From a batch file to jobs: layers of choices, names of outputs, and everything that can be refused beforehand."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from converter.batch.schema import JOB_KEYS, OUTPUT, Batch, FurtherJob, Model, NamedMethod
from converter.config.schema import values_of
from converter.errors import ConversionError, UsageError
from converter.option import Decides, arguments_of, nearest
from converter.request import Request

#: What a template of output names may say in braces.
FIELDS = ("model", "method", "format", "suffix")
#: A model that is not on this machine: an id of the Hub, with a file or a revision, or a URL.
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*://.+|\w[\w.-]*/\w[\w.-]*(/[\w.-]+\.gguf)?(@[\w./-]+)?", re.ASCII)


@dataclass(frozen=True)
class Job:
    """One output of a batch.

    Attributes:
        name: its output, relative to the batch's directory.
        place: where in the file it comes from.
        model: the model's name.
        method: the method's name.
        request: what ``converter.convert`` is asked for.
        missing: what it reads that is not there; the job fails, the others are done.
    """

    name: str
    place: str
    model: str
    method: str
    request: Request
    missing: str = ""


def expand(batch: Batch, file: Path, *, overwrite: bool = False, force: bool = False) -> list[Job]:
    """All jobs of a batch, in the order of the file: models × methods, then the further jobs.

    Args:
        batch: what was read.
        file: where from, for messages.
        overwrite: all jobs replace outputs that exist.
        force: all jobs convert again what the catalogue has.

    Raises:
        UsageError: a method, a name or a template that does not exist; two jobs with the same output; no job at all, or
            none whose files are there. Each with its place in the file.
    """
    try:
        models = _by_name("models", [(model.name or default_name(model.model_name), model) for model in batch.models])
        methods = _by_name("methods", [(method.name or method.method, method) for method in batch.methods])
        excluded = _excluded(batch, list(models), list(methods))
        jobs = [
            _job(batch, f"models[{i}] × methods[{j}]", models[model], methods[method], model, method, None)
            for (i, model), (j, method) in product(enumerate(models), enumerate(methods))
            if (model, method) not in excluded
        ]
        for number, further in enumerate(batch.jobs):
            entry = models.get(further.model) or Model(model_name=further.model)
            method = methods.get(further.method) or NamedMethod(method=further.method)
            name = further.model if further.model in models else default_name(further.model)
            jobs.append(_job(batch, f"jobs[{number}]", entry, method, name, further.method, further))
        if not jobs:
            raise UsageError("no jobs; expected models and methods, or jobs")
        _check_outputs(jobs)
        if all(job.missing for job in jobs):
            raise UsageError(f"{jobs[0].place}: {jobs[0].missing}")
    except ConversionError as error:
        raise UsageError(f"{file}: {error}") from None
    said = [
        replace(job.request, overwrite=overwrite or job.request.overwrite, force=force or job.request.force)
        for job in jobs
    ]
    return [replace(job, request=request) for job, request in zip(jobs, said, strict=True)]


def default_name(model: str) -> str:
    """The last part of a path, an id or a URL."""
    if Path(model).exists():
        return Path(model).resolve().name.removesuffix(".gguf")
    return model.partition("@")[0].rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")


def _by_name(place: str, named: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Entries by name.

    Raises:
        UsageError: a name appears twice, or is none.
    """
    found: dict[str, Any] = {}
    for number, (name, entry) in enumerate(named):
        if name in found:
            raise UsageError(f"{place}[{number}]: another one is called {name!r} already; give one of them a name")
        if not name or not name.isprintable() or "/" in name:
            raise UsageError(f"{place}[{number}].name: {name!r} cannot be part of a file's name")
        found[name] = entry
    return found


def _excluded(batch: Batch, models: list[str], methods: list[str]) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for number, pair in enumerate(batch.exclude):
        for key, name, names in (("model", pair.model, models), ("method", pair.method, methods)):
            if name is not None and name not in names:
                raise UsageError(f"exclude[{number}].{key}: {name!r} is not among {key}s{nearest(name, names)}")
        found |= set(product([pair.model] if pair.model else models, [pair.method] if pair.method else methods))
    return found


def _job(
    batch: Batch, place: str, model: Model, method: NamedMethod, name: str, called: str, own: FurtherJob | None
) -> Job:
    """One job from its layers of choices."""
    layers = [batch.defaults, model, method, *([own] if own else [])]
    names = {"model_name", "name", "model", "method"}
    said: dict[str, Any] = {}
    for layer in layers:
        said = _complete(said, layer.model_dump(exclude_unset=True, exclude=names))
    try:
        request, output = _request(said, model.model_name, method.method, name, called, batch)
        missing = _missing(request)
    except ConversionError as error:
        raise UsageError(f"{place}: {error}") from None
    return Job(output, place, name, called, request, missing)


def _complete(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``, mappings key by key."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _complete(merged[key], value) if both else value
    return merged


def _request(
    said: Mapping[str, Any], model: str, method: str, model_label: str, method_label: str, batch: Batch
) -> tuple[Request, str]:
    from converter.formats import find_format, find_method

    choices = values_of(said, JOB_KEYS)
    container = find_format(choices.get("output_format", Request.output_format))
    find_method(container, method)
    fields = {"model": model_label, "method": method_label, "format": container.name, "suffix": container.suffix}
    output = fill(choices.pop("output", OUTPUT.default), fields)
    directory = Path(batch.output_directory)
    if choices.get("push_to_hub"):
        choices["push_to_hub"] = fill(choices["push_to_hub"], fields)
    named = {
        "model": model,
        "method": method,
        "output": output if "://" in output else directory / output,
        "catalogue": batch.catalogue or directory / "catalogue.sqlite",
    }
    return Request(**arguments_of(Request, {**choices, **named})), output


def fill(template: str, fields: Mapping[str, str]) -> str:
    """A template with its fields.

    Raises:
        UsageError: an unknown field, or braces that do not match.
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"output: template {template!r} is broken: {error}") from None
    for _, name, form, conversion in parts:
        if name is not None and (name not in fields or form or conversion):
            raise UsageError(f"output: template {template!r} has no field {name!r}{nearest(name, list(fields))}")
    return template.format(**fields)


def _missing(request: Request) -> str:
    """What should be on this machine and is not, by its key; empty where all is there."""
    named = [("model", request.model)]
    for key, found in JOB_KEYS.items():
        if found.option.decides is Decides.CONTENT and (value := getattr(request, found.name)):
            named += [(key, path) for path in ([value] if isinstance(value, str) else value)]
    for key, path in named:
        elsewhere = key not in ("imatrix", "calibrate") and _ELSEWHERE.fullmatch(str(path))
        if not elsewhere and not Path(path).exists():
            return f"{key}: {path}: no such file or directory"
    return ""


def _check_outputs(jobs: Sequence[Job]) -> None:
    """Refuse two jobs that would write the same file."""
    seen: dict[Path, Job] = {}
    for job in jobs:
        output = Path(str(job.request.output)).absolute()
        other = seen.setdefault(output, job)
        if other is not job:
            raise UsageError(
                f"{other.place} and {job.place} both write {job.request.output}; give one of them a name or an output"
            )
