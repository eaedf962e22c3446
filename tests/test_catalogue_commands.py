"""``convert list``, ``show`` and ``prune``, and conversions that the catalogue answers."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from catalogue_records import digest, made, recorded, rewrite, write_source
from command_line import convert as command
from command_line import refusal

from converter.catalogue import Catalogue, Source, key_of
from converter.pipeline.known import facts_of

SAMPLE = Path(__file__).parent / "fixtures" / "sample"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_source(tmp_path / "model")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shelf(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three results, the second of which is gone."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two", "three"):
        recorded(model, tmp_path / f"{name}.gguf")
    (tmp_path / "two.gguf").unlink()
    return tmp_path


def test_list(shelf: Path) -> None:
    outcome = command("list")
    assert outcome.code == 0, outcome.err
    header, *rows = outcome.out.splitlines()
    assert header.split() == ["id", "when", "(UTC)", "source", "method", "size", "bits/weight", "verified", "output"]
    size = (shelf / "one.gguf").stat().st_size
    assert rows[0].split()[3:] == ["model", "q4_0", str(size), "bytes", "4.50", "load", "one.gguf"]
    assert [row.split(".gguf")[1] for row in rows] == ["", " (gone)", ""]
    assert command("list", shelf / "catalogue.sqlite").out == outcome.out
    assert len(command("list", "--method", "q8_0", "--source", "mod").out.splitlines()) == 1


def test_list_for_machines(shelf: Path) -> None:
    first, second, _ = json.loads(command("list", "--json").out)
    assert first["output_files"][0]["sha256"] == hashlib.sha256((shelf / "one.gguf").read_bytes()).hexdigest()
    assert first["verification"]["mean_kl"] == 0.25
    assert (first["state"], second["state"]) == ("there", "gone")


def test_show(shelf: Path) -> None:
    by_number, by_output = command("show", 1), command("show", "one.gguf")
    assert by_number.code == 0, by_number.err
    assert by_number.out == by_output.out
    assert "  mean kl: 0.25\n" in by_number.out
    assert f"  {hashlib.sha256((shelf / 'one.gguf').read_bytes()).hexdigest()}  {shelf}/one.gguf (" in by_number.out
    assert json.loads(command("show", 2, "--catalogue", shelf, "--json").out)["state"] == "gone"
    known = f"the catalogue {shelf}/catalogue.sqlite has no such result; convert list shows what it has"
    assert refusal("show", 7, code=2) == f"7: {known}"
    assert refusal("show", "none.gguf", code=2) == f"none.gguf: {known}"


def test_without_a_catalogue(tmp_path: Path) -> None:
    message = f"{tmp_path}/catalogue.sqlite: no catalogue here; pass --catalogue, or the directory of the outputs"
    for command_ in ("list", "prune"):
        assert refusal(command_, tmp_path) == message
    assert refusal("show", tmp_path / "x.gguf") == message


def known_outputs(shelf: Path) -> list[str]:
    with Catalogue(shelf / "catalogue.sqlite") as catalogue:
        return [record.output.stem for record in catalogue.records()]


def test_prune_forgets_what_is_gone(shelf: Path) -> None:
    assert command("prune", "--dry-run").out == f"2: {shelf}/two.gguf in q4_0, its output is gone: would be forgotten\n"
    assert known_outputs(shelf) == ["one", "two", "three"]
    assert command("prune").code == 0
    assert known_outputs(shelf) == ["one", "three"]
    assert command("prune").out == "nothing to forget\n"


def test_prune_keeps_files_unless_asked(shelf: Path) -> None:
    assert command("prune", "--keep", 1).code == 0
    assert known_outputs(shelf) == ["three"]
    assert (shelf / "one.gguf").exists()


def test_prune_deletes_only_what_is_as_recorded(shelf: Path) -> None:
    (shelf / "three.gguf").write_text("the user's own by now")
    outcome = command("prune", "--older-than", 0, "--files", "--yes")
    assert outcome.code == 0, outcome.err
    assert f"{shelf}/three.gguf: changed since it was made, kept\n" in outcome.out
    assert [path.name for path in shelf.glob("*.gguf")] == ["three.gguf"]
    assert known_outputs(shelf) == []


@pytest.mark.parametrize("own", [False, True])
def test_prune_leaves_a_directory_with_files_of_the_users_own(model: Path, tmp_path: Path, own: bool) -> None:
    output = write_source(tmp_path / "output")
    result = replace(made(tmp_path / "x"), output=output, files=(output,))
    with Catalogue(tmp_path / "catalogue.sqlite") as catalogue:
        files = [digest(path) for path in output.iterdir()]
        catalogue.record(key_of({"method": "f16"}, Source.local(model), output), facts_of(result), files)
    if own:
        (output / "notes.txt").write_text("mine")
    assert command("prune", tmp_path, "--keep", 0, "--files", "--yes").code == 0
    assert [path.name for path in output.glob("*")] == ["notes.txt"] * own
    assert output.exists() == own


def test_prune_asks_before_it_deletes(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\ny\n"))
    outcome = command("prune", "--keep", 0, "--files")
    assert (outcome.code, outcome.out.splitlines()[-1]) == (0, "delete 2 files? [y/N]: nothing done")
    assert known_outputs(shelf) == ["one", "two", "three"]
    assert command("prune", "--keep", 0, "--files").code == 0
    assert not list(shelf.glob("*.gguf"))
    assert known_outputs(shelf) == []


def test_a_conversion_is_answered_from_the_catalogue(here: Path) -> None:
    arguments = ("--model", SAMPLE, "--method", "q8_0", "--output", "out.gguf", "--verify", "none")
    assert command(*arguments).code == 0
    (record,) = json.loads(command("list", "--json").out)
    assert record["output_files"][0]["sha256"] == digest(here / "out.gguf").sha256
    assert record["origin"] == str(SAMPLE.resolve())
    stamp = (here / "out.gguf").stat().st_mtime_ns
    assert command(*arguments).code == 0
    assert (here / "out.gguf").stat().st_mtime_ns == stamp
    assert "exists already" in refusal(*arguments, "--pre", "gpt-2")
    assert command(*arguments, "--force").code == 0
    assert (here / "out.gguf").stat().st_mtime_ns != stamp
    (record,) = json.loads(command("list", "--json").out)
    assert record["id"] == 2
    rewrite(here / "out.gguf")
    assert "exists already" in refusal(*arguments)


def test_a_spoilt_catalogue_does_not_spoil_a_conversion(here: Path) -> None:
    (here / "catalogue.sqlite").write_text("no database" * 100)
    outcome = command("--model", SAMPLE, "--method", "q8_0", "--output", "out.gguf", "--verify", "none")
    assert outcome.code == 0
    warnings = [line for line in outcome.err.splitlines() if "catalogue" in line]
    assert warnings == [
        f"convert: warning: this conversion is not in the catalogue: {here}/catalogue.sqlite: cannot be used as a "
        "catalogue: file is not a database"
    ]
    assert (here / "catalogue.sqlite").read_text() == "no database" * 100
