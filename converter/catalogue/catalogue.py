"""The catalogue itself: find, record, list, forget."""

from __future__ import annotations

import datetime
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from converter.catalogue.database import CatalogueError, connect, explained
from converter.catalogue.digests import FileDigest, content_of, file_digest, identity_of
from converter.catalogue.record import COLUMNS, Facts, Record, file_facts, record_of, row_of, stored_path
from converter.catalogue.request_key import PACKAGES, STRENGTH, RequestKey, versions

_INSERT = (
    f"INSERT OR REPLACE INTO results ({', '.join(COLUMNS)}, facts) "
    f"VALUES ({', '.join(f':{name}' for name in COLUMNS)}, :facts)"
)


class Catalogue:
    """An open catalogue, for one thread. A context manager; several processes may have the same file open.

    Args:
        path: the SQLite file.
        writable: make it where it is missing, and allow changes.

    Raises:
        CatalogueError: it is missing, damaged, another program's, of a newer version, or cannot be written.
    """

    def __init__(self, path: Path, *, writable: bool = True) -> None:
        self.path = path.absolute()
        self._home = self.path.parent
        self._connection = connect(self.path, writable=writable)
        self._connection.row_factory = sqlite3.Row

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def find(self, key: RequestKey) -> Record | None:
        """The result of an identical request whose output is still what was made then.

        What is cheap is compared first: a file is read only where everything else agrees and its size, but not its
        time, is as recorded, or where its digest is unknown.

        Raises:
            CatalogueError: the catalogue is damaged.
            HashingError: a file cannot be read.
        """
        row = self._row("output = ?", stored_path(key.output, self._home))
        if row is None or row["method"] != key.method or row["format"] != key.output_format:
            return None
        record = self._record(row)
        level = record.verification["level"] if record.verification is not None else "none"
        same = (
            record.passed is not False
            and not record.unverified
            and STRENGTH[level] >= STRENGTH[key.verify]
            and all(record.versions.get(name) == versions(key)[name] for name in PACKAGES)
            and record.recipe.keys() == key.recipe.keys() | key.files.keys()
            and all(record.recipe[name] == value for name, value in key.recipe.items())
            and all(file.path.is_file() and identity_of(file.path)[0] == file.size for file in record.output_files)
            and sorted(file.size for file in record.source_files)
            == sorted(identity_of(path)[0] for path in key.source.files)
            and all(record.recipe[name] == self.content(files) for name, files in key.files.items())
            and record.content == self.content(key.source.files, key.source.elsewhere)
            and all(self._holds(file) for file in record.output_files)
        )
        return record if same else None

    def record(self, key: RequestKey, made: Facts, outputs: Sequence[FileDigest]) -> Record:
        """Remember a result, in place of an earlier one of the same output.

        Call it just before the output gets its name: a record that a killed process leaves then points to a file that
        is not there, and a file with its final name always has its record.

        Args:
            key: the request.
            made: what was made, its files under their final names.
            outputs: digests of the output's files, under their final names.

        Raises:
            CatalogueError: it cannot be written.
            HashingError: a source's file cannot be read.
        """
        files = self.digests(key.source.files)
        content = content_of(
            [*((path.name, file.sha256) for path, file in files.items()), *key.source.elsewhere.items()]
        )
        recipe = {**key.recipe, **{name: self.content(paths) for name, paths in key.files.items()}}
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        row = row_of(key, made, created, content, recipe, list(files.values()), list(outputs), self._home)
        with explained(self.path):
            self._connection.execute(_INSERT, row)
        self.remember(outputs)
        found = self._row("output = ?", row["output"])
        assert found is not None
        return self._record(found)

    def records(self) -> list[Record]:
        """All results, the newest last.

        Raises:
            CatalogueError: the catalogue is damaged.
        """
        with explained(self.path):
            rows = self._connection.execute("SELECT * FROM results ORDER BY id").fetchall()
        return [self._record(row) for row in rows]

    def get(self, which: int | Path) -> Record | None:
        """The result of this number, of this output, or to which this file belongs.

        Raises:
            CatalogueError: the catalogue is damaged.
        """
        if isinstance(which, int):
            row = self._row("id = ?", which)
            return None if row is None else self._record(row)
        path = which.absolute()
        row = self._row("output = ?", stored_path(path, self._home))
        if row is not None:
            return self._record(row)
        return next((one for one in self.records() if path in [file.path for file in one.output_files]), None)

    def verified(self, record: Record, verification: Mapping[str, Any], renamed: Mapping[Path, Path]) -> None:
        """Remember that a result which lacked a verdict has one now.

        Args:
            record: the result.
            verification: fields of the verification.
            renamed: the final path of each file, or of the directory of all files, by the one that it had.

        Raises:
            CatalogueError: it cannot be written.
        """

        def final(path: Path) -> Path:
            for now, then in renamed.items():
                if path.is_relative_to(now.absolute()):
                    return then.absolute() / path.relative_to(now.absolute())
            return path

        changes = {
            "verification": verification,
            "unverified": "",
            "files": [stored_path(path.absolute(), self._home) for path in renamed.values()],
            "output_files": [
                {**file_facts(file), "path": stored_path(final(file.path), self._home)} for file in record.output_files
            ],
        }
        row = self._row("id = ?", record.id)
        assert row is not None
        facts = json.dumps(json.loads(row["facts"]) | changes, default=str)
        with explained(self.path):
            self._connection.execute(
                "UPDATE results SET passed = ?, facts = ? WHERE id = ?", (int(verification["passed"]), facts, record.id)
            )

    def forget(self, records: Iterable[Record]) -> None:
        """Remove results from the catalogue; their files stay.

        Raises:
            CatalogueError: it cannot be written.
        """
        with explained(self.path):
            self._connection.executemany("DELETE FROM results WHERE id = ?", [(record.id,) for record in records])

    def known(self, paths: Iterable[Path]) -> dict[Path, FileDigest]:
        """Digests of those of the files whose size and modification time are as when they were read.

        Raises:
            CatalogueError: the catalogue is damaged.
        """
        found = {}
        with explained(self.path):
            for path in paths:
                row = self._connection.execute("SELECT * FROM files WHERE path = ?", (str(path.resolve()),)).fetchone()
                if row is not None and path.is_file() and identity_of(path) == (row["size"], row["mtime_ns"]):
                    found[path] = FileDigest(path.absolute(), row["size"], row["mtime_ns"], row["sha256"])
        return found

    def digests(self, paths: Sequence[Path]) -> dict[Path, FileDigest]:
        """Digests of files, in their order; what is not known is read and remembered.

        Raises:
            HashingError: a file cannot be read.
            CatalogueError: the catalogue is damaged or cannot be written.
        """
        known = self.known(paths)
        new = {path: file_digest(path) for path in paths if path not in known}
        self.remember(new.values())
        return {path: known.get(path) or new[path] for path in paths}

    def remember(self, digests: Iterable[FileDigest]) -> None:
        """Keep digests, so that the files are not read again while they stay as they are.

        Raises:
            CatalogueError: it cannot be written.
        """
        rows = [(str(file.path.resolve()), file.size, file.mtime_ns, file.sha256) for file in digests]
        if rows:
            with explained(self.path):
                self._connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)

    def content(self, files: Sequence[Path], elsewhere: Mapping[str, str] | None = None) -> str:
        """SHA-256 over the names and SHA-256 of files, which are read where they are not known as they are.

        Args:
            files: on this machine.
            elsewhere: a digest or an ETag by name of those that are not.

        Raises:
            HashingError: a file cannot be read.
            CatalogueError: the catalogue is damaged or cannot be written.
        """
        local = ((path.name, file.sha256) for path, file in self.digests(files).items())
        return content_of([*local, *(elsewhere or {}).items()])

    def _holds(self, recorded: FileDigest) -> bool:
        """Whether a file of an output still is what was made."""
        return recorded.unchanged() or self.digests([recorded.path])[recorded.path].sha256 == recorded.sha256

    def _row(self, condition: str, value: object) -> sqlite3.Row | None:
        with explained(self.path):
            row: sqlite3.Row | None = self._connection.execute(
                f"SELECT * FROM results WHERE {condition}", (value,)
            ).fetchone()
        return row

    def _record(self, row: sqlite3.Row) -> Record:
        try:
            return record_of(row, self._home)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CatalogueError(
                f"{self.path}: result {row['id']} is damaged; move the file away, a new one will be made"
            ) from error
