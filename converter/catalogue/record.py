"""One line of the catalogue: everything that is known of a result."""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.catalogue.digests import FileDigest
from converter.catalogue.request_key import RequestKey, versions

#: Columns besides ``id`` and ``facts``, in the table's order.
COLUMNS = (
    "created", "output", "origin", "content", "method", "format", "passed", "source_bytes", "output_bytes",
    "bits_per_weight",
)  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What is kept of a result beside its request.

    Attributes:
        source_bytes: bytes of the source's tensors.
        bits_per_weight: of all tensors together.
        weights: number of elements of all tensors.
        seconds: by stage.
        tensor_types: type of each tensor.
        tensor_shapes: shape of each tensor.
        files: what was written, in the order of reading; a directory stands for its files.
        warnings: what the user should know.
        verification: fields of the verification, ``level`` and ``passed`` among them; None without one.
        unverified: why it could not be verified; empty where it was, or nobody asked.
    """

    source_bytes: int
    bits_per_weight: float
    weights: int
    seconds: Mapping[str, float]
    tensor_types: Mapping[str, str]
    tensor_shapes: Mapping[str, tuple[int, ...]]
    files: tuple[Path, ...]
    warnings: tuple[str, ...]
    verification: Mapping[str, Any] | None = None
    unverified: str = ""


@dataclass(frozen=True)
class Record:
    """A result.

    Attributes:
        id: its number, never given twice.
        created: when, ISO 8601 in UTC.
        output: absolute path that was asked for; the files of a split output have other names.
        origin: where the source came from.
        content: SHA-256 over the names and SHA-256 of the source's files.
        method: the method's name.
        format: the container.
        passed: what the verification found; None without one.
        source_bytes: bytes of the source's tensors.
        output_bytes: bytes of the output's files.
        bits_per_weight: of all tensors together.
        recipe: choices that decide bytes, files as their content hash.
        versions: of the packages.
        source_files: the source's files on this machine.
        output_files: the output's files.
        files: what was written, in the order of reading; a directory stands for its files.
        weights: number of elements of all tensors.
        seconds: by stage.
        verification: fields of the verification; None without one.
        tensor_types: type of each tensor.
        tensor_shapes: shape of each tensor.
        warnings: what the user should know.
        unverified: why it could not be verified; it then has another name than the one that was asked for.
    """

    id: int
    created: str
    output: Path
    origin: str
    content: str
    method: str
    format: str
    passed: bool | None
    source_bytes: int
    output_bytes: int
    bits_per_weight: float
    recipe: Mapping[str, Any]
    versions: Mapping[str, str]
    source_files: tuple[FileDigest, ...]
    output_files: tuple[FileDigest, ...]
    files: tuple[Path, ...]
    weights: int
    seconds: Mapping[str, float]
    verification: Mapping[str, Any] | None
    tensor_types: Mapping[str, str]
    tensor_shapes: Mapping[str, tuple[int, ...]]
    warnings: tuple[str, ...]
    unverified: str = ""

    @property
    def first(self) -> Path:
        """The file, the first of several, or the directory."""
        return self.files[0] if self.files else self.output

    @property
    def state(self) -> str:
        """``there``, ``changed`` (another size or time than recorded), ``gone`` or ``unverified``."""
        if not all(file.path.is_file() for file in self.output_files):
            return "gone"
        if self.unverified:
            return "unverified"
        return "there" if all(file.unchanged() for file in self.output_files) else "changed"

    def as_json(self) -> dict[str, Any]:
        """All of it but the tensors, as JSON has it."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del fields["tensor_types"], fields["tensor_shapes"]
        return {
            **fields,
            "output": str(self.output),
            "state": self.state,
            "source_files": [file_facts(file) for file in self.source_files],
            "output_files": [file_facts(file) for file in self.output_files],
            "files": [str(path) for path in self.files],
            "warnings": list(self.warnings),
        }


def file_facts(digest: FileDigest) -> dict[str, Any]:
    """A digest as JSON has it."""
    return {**dataclasses.asdict(digest), "path": str(digest.path)}


def row_of(
    key: RequestKey,
    made: Facts,
    created: str,
    content: str,
    recipe: Mapping[str, Any],
    source_files: list[FileDigest],
    output_files: list[FileDigest],
    home: Path,
) -> dict[str, Any]:
    """The row of a result, by column; ``home`` is the catalogue's directory."""
    facts = {
        "recipe": recipe,
        "versions": versions(key),
        "source_files": [file_facts(file) for file in source_files],
        "output_files": [{**file_facts(file), "path": stored_path(file.path, home)} for file in output_files],
        "files": [stored_path(path.absolute(), home) for path in made.files],
        "weights": made.weights,
        "seconds": dict(made.seconds),
        "verification": made.verification,
        "tensor_types": dict(made.tensor_types),
        "tensor_shapes": {name: list(shape) for name, shape in made.tensor_shapes.items()},
        "warnings": list(made.warnings),
        "unverified": made.unverified,
    }
    return {
        "created": created,
        "output": stored_path(key.output, home),
        "origin": key.source.origin,
        "content": content,
        "method": key.method,
        "format": key.output_format,
        "passed": None if made.verification is None else int(made.verification["passed"]),
        "source_bytes": made.source_bytes,
        "output_bytes": sum(file.size for file in output_files),
        "bits_per_weight": made.bits_per_weight,
        "facts": json.dumps(facts, default=str),
    }


def record_of(row: sqlite3.Row, home: Path) -> Record:
    """A row as a record.

    Raises:
        ValueError, KeyError, TypeError: its facts are damaged.
    """
    facts = json.loads(row["facts"])
    return Record(
        id=row["id"],
        **{name: row[name] for name in COLUMNS if name not in ("output", "passed")},
        output=found_path(row["output"], home),
        passed=None if row["passed"] is None else bool(row["passed"]),
        source_files=tuple(_digest(file, home) for file in facts["source_files"]),
        output_files=tuple(_digest(file, home) for file in facts["output_files"]),
        files=tuple(found_path(path, home) for path in facts["files"]),
        tensor_shapes={name: tuple(shape) for name, shape in facts["tensor_shapes"].items()},
        warnings=tuple(facts["warnings"]),
        unverified=facts.get("unverified", ""),  # absent where an earlier version wrote it
        **{name: facts[name] for name in ("recipe", "versions", "weights", "seconds", "verification", "tensor_types")},
    )


def _digest(file: Mapping[str, Any], home: Path) -> FileDigest:
    return FileDigest(found_path(file["path"], home), int(file["size"]), int(file["mtime_ns"]), str(file["sha256"]))


def stored_path(path: Path, home: Path) -> str:
    """Relative where it lies below the catalogue's directory, so that both may move together; else absolute."""
    return os.path.relpath(path, home) if path.is_relative_to(home) else str(path)


def found_path(stored: str, home: Path) -> Path:
    """The absolute path again."""
    return home / stored
