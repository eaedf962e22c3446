"""Batch files, and what became of them as others read it."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from pathlib import Path
from typing import Any

import yaml


def write(**content: Any) -> Path:
    """A batch file here; outputs go to ``out``."""
    path = Path("batch.yaml")
    path.write_text(yaml.safe_dump({"output_directory": "out", **content}))
    return path


def rows(text: str) -> list[list[str]]:
    """A printed table without its header."""
    return [line.split() for line in text.splitlines()[1:]]


def catalogue() -> dict[str, tuple[int, str, int | None, str]]:
    """What SQLite itself reads: id, method, passed and SHA-256 of the output, by output."""
    with contextlib.closing(sqlite3.connect("out/catalogue.sqlite")) as plain:
        found = plain.execute(
            "SELECT output, id, method, passed, facts ->> '$.output_files[0].sha256', "
            "json_array_length(facts, '$.output_files') FROM results"
        ).fetchall()
    assert all(row[-1] == 1 for row in found)
    return {row[0]: row[1:-1] for row in found}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
