"""The SQLite file: its schema, who may open it, and what to say where it is not ours.

SQLite's rollback journal and its locks make it safe for several processes; a writer waits for another one. WAL would
leave two more files beside the outputs and does not work on network file systems.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.errors import ConversionError
from converter.outputs import special_file

#: In the file's header: whose it is, and the version of the tables below.
APPLICATION_ID = 0x63767274
SCHEMA_VERSION = 1
#: Seconds to wait for another process.
PATIENCE = 30.0
DEFAULT_NAME = "catalogue.sqlite"

SCHEMA = """
CREATE TABLE results (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created TEXT NOT NULL,          -- ISO 8601, UTC
    output TEXT NOT NULL UNIQUE,    -- relative to this file where it lies below its directory
    origin TEXT NOT NULL,           -- of the source: hub:org/name@commit, a URL or an absolute path
    content TEXT NOT NULL,          -- SHA-256 over the names and SHA-256 of the source's files
    method TEXT NOT NULL,
    format TEXT NOT NULL,
    passed INTEGER,                 -- the verification: 1, 0, or NULL without one
    source_bytes INTEGER NOT NULL,
    output_bytes INTEGER NOT NULL,
    bits_per_weight REAL NOT NULL,
    facts TEXT NOT NULL             -- the rest, as JSON
);
CREATE TABLE files (                -- digests, so that an unchanged file is not read again
    path TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    sha256 TEXT NOT NULL
);
"""


class CatalogueError(ConversionError):
    """The catalogue cannot be read or written, or is not one."""


def default_catalogue(output: Path) -> Path:
    """The catalogue that an output is recorded in unless the user names one: beside it."""
    return output.absolute().parent / DEFAULT_NAME


def connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    """Open a catalogue; a writable one is made where there is none.

    Raises:
        CatalogueError: it is missing, damaged, another program's, of a newer version, or cannot be written.
    """
    if not writable and not path.is_file():
        raise CatalogueError(f"{path}: no catalogue here; pass --catalogue, or the directory of the outputs")
    if special := special_file(path):
        raise CatalogueError(f"{path}: is {special}, not a file; choose another --catalogue")
    with explained(path):
        mode = "rwc" if writable else "ro"
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=PATIENCE, isolation_level=None
        )
        try:
            _check(path, connection, writable=writable)
        except BaseException:
            connection.close()
            raise
    return connection


def _check(path: Path, connection: sqlite3.Connection, *, writable: bool) -> None:
    """Refuse what is not a catalogue; make the tables in an empty file."""
    if writable:
        # Two processes that make the same file at once: the second waits here, then finds the tables.
        connection.execute("BEGIN IMMEDIATE")
    (owner,), (version,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if owner != APPLICATION_ID and (tables or not writable):
        raise CatalogueError(f"{path}: is another program's SQLite file, not a catalogue; choose another --catalogue")
    if version > SCHEMA_VERSION:
        raise CatalogueError(
            f"{path}: is a catalogue of version {version}, at most {SCHEMA_VERSION} expected; update convert, or "
            "choose another --catalogue"
        )
    if writable:
        if not tables:
            for statement in SCHEMA.split(";")[:-1]:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """SQLite's complaints as one line.

    Raises:
        CatalogueError: instead of ``sqlite3.Error``.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise CatalogueError(f"{path}: cannot be used as a catalogue: {error}") from error


def locate(place: Path) -> Path:
    """The catalogue that a user means by a file, or by the directory of the outputs.

    Raises:
        CatalogueError: there is no such place.
    """
    if not place.exists() and place.suffix != Path(DEFAULT_NAME).suffix:
        raise CatalogueError(f"{place}: no such file or directory; give a directory of outputs, or a {DEFAULT_NAME}")
    return place / DEFAULT_NAME if place.is_dir() else place
