"""The catalogue against hashlib, SQLite's own reader and the file system: what it answers, and what it never spoils."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from catalogue_records import choices, digest, made, recorded, rewrite, write_source
from command_line import convert as command
from command_line import refusal

from converter.catalogue import (
    Bookkeeping,
    Catalogue,
    CatalogueError,
    Hashing,
    Source,
    input_files,
    key_of,
    output_files,
)
from converter.catalogue.digests import Cancelled, HashingError
from converter.pipeline.known import facts_of, known_result
from converter.recipes import Overrides
from converter.verification import Verification


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_source(tmp_path / "model")


def found(model: Path, output: Path, **further: Any) -> bool:
    """Whether a request is answered."""
    with Catalogue(output.parent / "catalogue.sqlite") as catalogue:
        return catalogue.find(key_of(choices(model, **further), Source.local(model), output)) is not None


def test_the_content_hash_is_that_of_sha256sum(model: Path, tmp_path: Path) -> None:
    lines = sorted(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in model.iterdir())
    with Catalogue(tmp_path / "c.sqlite") as catalogue:
        assert catalogue.content(input_files(model)) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_an_unchanged_file_is_not_read_again(model: Path, tmp_path: Path) -> None:
    weights = model / "model.safetensors"
    with Catalogue(tmp_path / "c.sqlite") as catalogue:
        first = catalogue.digests([weights])[weights]
        stamp, content = weights.stat().st_mtime_ns, bytearray(weights.read_bytes())
        content[0] ^= 1
        weights.write_bytes(content)
        os.utime(weights, ns=(stamp, stamp))
        assert catalogue.digests([weights])[weights].sha256 == first.sha256  # it was not read
        os.utime(weights, ns=(stamp, stamp + 1))
        assert catalogue.digests([weights])[weights].sha256 == hashlib.sha256(content).hexdigest()


def test_what_a_directory_consists_of(model: Path) -> None:
    further = ("pytorch_model.bin", "tf_model.h5", "consolidated.00.pth")  # the same weights once more
    for name in (".hidden", "out.gguf", "out.gguf.part", "catalogue.sqlite", "out.gguf.rejected", *further):
        (model / name).write_text("x")
    (model / "folder").mkdir()
    (model / "folder" / "file").write_text("x")
    assert [path.name for path in input_files(model)] == ["config.json", "model.safetensors"]
    assert input_files(model / "config.json") == (model / "config.json",)
    assert output_files(model)[-1] == model / "folder" / "file"


def test_a_record_holds_everything(model: Path, tmp_path: Path) -> None:
    output, imatrix = tmp_path / "out.gguf", tmp_path / "im.gguf"
    imatrix.write_text("importance")
    recorded(model, output, imatrix=[imatrix], overrides=Overrides(pure=True), threads=3)
    with Catalogue(tmp_path / "catalogue.sqlite", writable=False) as catalogue:
        record = catalogue.get(output)
        assert record is not None
        assert catalogue.get(record.id) == record == catalogue.records()[0]
        assert catalogue.get(99) is None
    assert record.origin == str(model)
    assert record.recipe["overrides"] == {"pure": True}
    assert "threads" not in record.recipe
    line = f"{hashlib.sha256(b'importance').hexdigest()}  im.gguf\n"
    assert record.recipe["imatrix"] == hashlib.sha256(line.encode()).hexdigest()
    assert record.output_files == (digest(output),)
    assert record.source_files == tuple(digest(path) for path in sorted(model.iterdir()))
    assert set(record.versions) == {"converter", "gguf", "llama-cpp-python"}
    assert known_result(record) == replace(made(output), known=True)
    with sqlite3.connect(tmp_path / "catalogue.sqlite") as plain:
        (row,) = plain.execute("SELECT output, method, passed, facts ->> '$.verification.mean_kl' FROM results")
    assert row == ("out.gguf", "q4_0", 1, 0.25)


def test_an_identical_request_is_answered(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.gguf"
    assert not found(model, output)
    recorded(model, output)
    assert found(model, output)
    assert found(model, output, verify="none", threads=1, overrides=Overrides())
    assert found(model, output, method="Q4_0")


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "q8_0"},
        {"output_format": "pytorch"},
        {"verify": "full"},
        {"overrides": Overrides(pure=True)},
        {"torch_dtype": "float16"},
        {"pre": "gpt-2"},
        {"imatrix": ["model/config.json"]},
        {"tokenizer": "model"},
    ],
    ids=str,
)
def test_another_request_is_not(model: Path, tmp_path: Path, changed: dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    recorded(model, tmp_path / "out.gguf")
    assert not found(model, tmp_path / "out.gguf", **changed)
    assert not found(model, tmp_path / "other.gguf")


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    ("change", "which", "answered"),
    [
        (touch, "model/model.safetensors", True),
        (rewrite, "model/model.safetensors", False),
        (Path.unlink, "model/config.json", False),
        (touch, "out.gguf", True),
        (rewrite, "out.gguf", False),
        (Path.unlink, "out.gguf", False),
        (touch, "im.gguf", True),
        (rewrite, "im.gguf", False),
    ],
)
def test_hashes_decide(model: Path, tmp_path: Path, change: Callable[[Path], None], which: str, answered: bool) -> None:
    (tmp_path / "im.gguf").write_text("importance")
    recorded(model, tmp_path / "out.gguf", imatrix=[tmp_path / "im.gguf"])
    change(tmp_path / which)
    assert found(model, tmp_path / "out.gguf", imatrix=[tmp_path / "im.gguf"]) == answered


def test_a_moved_source_and_a_moved_shelf_are_known_again(model: Path, tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    recorded(model, tmp_path / "shelf" / "out.gguf")
    (tmp_path / "elsewhere").mkdir()
    moved = model.rename(tmp_path / "elsewhere" / "model")
    shelf = (tmp_path / "shelf").rename(tmp_path / "attic")
    assert found(moved, shelf / "out.gguf")


def test_a_file_that_failed_its_verification_is_no_answer(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.gguf"
    result = made(output, verification=Verification("load", passed=False, verdict="it does not load"))
    with Catalogue(tmp_path / "catalogue.sqlite") as catalogue:
        catalogue.record(key_of(choices(model), Source.local(model), output), facts_of(result), [digest(output)])
    assert not found(model, output, verify="none")


def test_an_output_in_parts(model: Path, tmp_path: Path) -> None:
    output, parts = tmp_path / "out.gguf", [tmp_path / f"out-0000{number}-of-00002.gguf" for number in (1, 2)]
    first, second = (made(part) for part in parts)
    result = replace(first, files=tuple(parts), output_bytes=first.output_bytes + second.output_bytes)
    with Catalogue(tmp_path / "catalogue.sqlite") as catalogue:
        catalogue.record(
            key_of(choices(model), Source.local(model), output), facts_of(result), [digest(part) for part in parts]
        )
        for path in (output, *parts):
            record = catalogue.get(path)
            assert record is not None
            assert known_result(record) == replace(result, known=True)
    assert found(model, output)
    assert parts[0].name in command("list", tmp_path).out
    parts[1].unlink()
    assert not found(model, output)


def test_a_later_result_takes_the_place_of_the_earlier(model: Path, tmp_path: Path) -> None:
    recorded(model, tmp_path / "out.gguf")
    recorded(model, tmp_path / "out.gguf", pre="gpt-2")
    with Catalogue(tmp_path / "catalogue.sqlite") as catalogue:
        (record,) = catalogue.records()
    assert (record.id, record.recipe["pre"]) == (2, "gpt-2")


def test_files_elsewhere_count_by_their_digests(tmp_path: Path) -> None:
    output = tmp_path / "out.gguf"
    source = Source("hub:org/name@0123", "name", (), {"model.safetensors": "etag-1"})
    with Catalogue(tmp_path / "c.sqlite") as catalogue:
        catalogue.record(key_of(choices(tmp_path), source, output), facts_of(made(output)), [digest(output)])
        assert catalogue.find(key_of(choices(tmp_path), source, output))
        other = replace(source, elsewhere={"model.safetensors": "etag-2"})
        assert catalogue.find(key_of(choices(tmp_path), other, output)) is None


def write_many(path: Path, model: Path, number: int) -> None:
    for turn in range(10):
        recorded(model, path.parent / f"{number}-{turn}.gguf")


def test_several_processes_write_at_once(model: Path, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    writers = [spawn.Process(target=write_many, args=(tmp_path / "x", model, number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    with Catalogue(tmp_path / "catalogue.sqlite") as catalogue:
        assert len(catalogue.records()) == 40


def newer(path: Path) -> None:
    Catalogue(path).close()
    with sqlite3.connect(path) as plain:
        plain.execute("PRAGMA user_version = 9")


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as plain:
        plain.execute("CREATE TABLE shopping (item)")


SPOILT = [
    (newer, "is a catalogue of version 9, at most 1 expected; update convert, or choose another --catalogue"),
    (foreign, "is another program's SQLite file, not a catalogue; choose another --catalogue"),
    (lambda path: path.write_text("no database" * 100), "cannot be used as a catalogue: file is not a database"),
    (Path.mkdir, "cannot be used as a catalogue: unable to open database file"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_what_is_no_catalogue_is_refused(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "c.sqlite"
    spoil(path)
    with pytest.raises(CatalogueError) as error:
        Catalogue(path)
    assert str(error.value) == f"{path}: {message}"


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_a_conversion_goes_on_with_one_warning(
    model: Path, tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    path, output, warnings = tmp_path / "c.sqlite", tmp_path / "out.gguf", list[str]()
    spoil(path)
    key = key_of(choices(model), Source.local(model), output)
    with Bookkeeping(path, warnings.append) as books:
        assert books.answer(key) is None
        result = made(output)
        with books.hashing([*key.source.files, output]) as hashing:
            books.record(key, facts_of(result), [hashing], {output: output})
    assert warnings == [f"this conversion is not in the catalogue: {path}: {message}"]


def test_a_damaged_record_is_named(model: Path, tmp_path: Path) -> None:
    recorded(model, tmp_path / "out.gguf")
    with sqlite3.connect(tmp_path / "catalogue.sqlite") as plain:
        plain.execute("UPDATE results SET facts = '[]'")
    message = refusal("list", tmp_path)
    assert message == f"{tmp_path}/catalogue.sqlite: result 1 is damaged; move the file away, a new one will be made"


def test_hashing_in_a_thread_while_the_file_gets_its_name(model: Path, tmp_path: Path) -> None:
    part, output = tmp_path / "out.gguf.part", tmp_path / "out.gguf"
    key = key_of(choices(model), Source.local(model), output)
    with Bookkeeping(tmp_path / "c.sqlite", pytest.fail) as books:
        result = replace(made(part), output=output)
        with books.hashing([*key.source.files, part]) as hashing:
            books.record(key, facts_of(result), [hashing], {part: output})
        assert books.answer(key) is None  # killed here, it is not taken for done
        part.rename(output)
        record = books.answer(key)
    assert record is not None
    assert record.output_files == (digest(output),)


def test_hashing_can_be_cancelled_and_tells_its_failure(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(1))
    os.truncate(tmp_path / "large", 1 << 40)
    started = time.monotonic()
    with Hashing([tmp_path / "large"], {}) as hashing:
        pass
    assert time.monotonic() - started < 5
    with pytest.raises(Cancelled):
        hashing.digests()
    with (
        Hashing([tmp_path / "none"], {}) as hashing,
        pytest.raises(HashingError, match="none: cannot be read: No such"),
    ):
        hashing.digests()
    assert not [thread for thread in threading.enumerate() if thread.name == "hashing"]
