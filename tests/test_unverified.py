"""Outputs whose verification could not be carried out: kept, known to the catalogue, and gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import convert as command

from converter import convert
from converter.catalogue import Catalogue
from converter.errors import ConversionError, EnvironmentFailure, OutputError, VerificationError
from converter.execution.executor import Job
from converter.pipeline import verifications, verify_output
from converter.pipeline.verifications import VERIFICATIONS
from converter.runtime import memory

SAMPLE = Path(__file__).parent / "fixtures" / "sample"


def killed(*_: object) -> None:
    raise EnvironmentFailure("the process that loads the file was killed by SIGKILL")


@pytest.fixture
def no_verification(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Verifications that cannot be carried out, until the fixture's value is called."""
    working = dict(VERIFICATIONS)
    for name in working:
        monkeypatch.setitem(verifications.VERIFICATIONS, name, killed)  # type: ignore[arg-type]
    yield lambda: [monkeypatch.setitem(verifications.VERIFICATIONS, *one) for one in working.items()] and None  # type: ignore[arg-type]


@pytest.fixture
def no_tile(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the test fail that writes a tile from now on."""
    return lambda: monkeypatch.setattr(Job, "write", lambda *_: pytest.fail("a tile is written again"))


CHOICES = {
    "file": ({"method": "q4_0", "output": "x.gguf"}, "x.gguf"),
    "parts": ({"method": "q4_0", "output": "x.gguf", "split_max_size": 500_000}, "x-00001-of-00004.gguf"),
    "directory": ({"method": "q4_0", "output": "x", "output_format": "safetensors"}, "x"),
    "torch": ({"method": "q8_0", "output": "x", "output_format": "pytorch"}, "x"),
}


@pytest.mark.parametrize("kind", CHOICES)
def test_the_same_command_goes_on_with_the_verification(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_verification: Callable[[], None],
    no_tile: Callable[[], None],
    kind: str,
) -> None:
    choices, first = CHOICES[kind]
    monkeypatch.chdir(tmp_path)
    kept = Path(f"{choices['output']}.unverified")
    with pytest.raises(EnvironmentFailure) as failure:
        convert(SAMPLE, **choices)
    assert str(failure.value) == (
        f"the process that loads the file was killed by SIGKILL; the output is complete and kept as {kept}: the same "
        "command goes on with the verification, or use convert verify"
    )
    assert failure.value.exit_code == 3
    assert sorted(map(str, Path().iterdir())) == sorted(["catalogue.sqlite", str(kept), f"{kept}.journal"])
    assert command("list", ".").out.count(f"{kept} (unverified)") == 1
    no_tile()
    with pytest.raises(EnvironmentFailure):
        convert(SAMPLE, **choices)  # nor is it lost the second time
    no_verification()
    result = convert(SAMPLE, **choices)
    assert result.verification is not None and result.verification.passed
    assert result.resumed
    assert result.output == Path(first)
    assert not list(Path().glob("*unverified*"))
    assert (state := json.loads(command("list", ".", "--json").out)[0])["state"] == "there"
    assert state["passed"] is True
    again = convert(SAMPLE, **choices)
    assert again.known


@pytest.mark.parametrize("kind", CHOICES)
def test_convert_verify_gives_it_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_verification: Callable[[], None], kind: str
) -> None:
    choices, first = CHOICES[kind]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EnvironmentFailure):
        convert(SAMPLE, **choices)
    outcome = command("verify", choices["output"], "--model", SAMPLE, "--level", "load")
    assert outcome.code == 0, outcome.err
    assert Path(first).exists() and not list(Path().glob("*unverified*"))
    with Catalogue(Path("catalogue.sqlite")) as catalogue:
        record = catalogue.get(Path(str(choices["output"])))
    assert record is not None
    assert (record.state, record.passed, record.first) == ("there", True, Path(first).absolute())
    no_verification()
    assert convert(SAMPLE, **choices).known


def test_one_that_is_not_faithful_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_verification: Callable[[], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EnvironmentFailure):
        convert(SAMPLE, "q2_k", "x.gguf")
    with pytest.raises(VerificationError, match=r"not faithful .* kept as x.gguf.rejected"):
        verify_output("x.gguf.unverified", SAMPLE, method="q8_0")
    assert not list(Path().glob("*unverified*")) and Path("x.gguf.rejected").exists()
    assert command("list", ".").out.count("x.gguf") == 0


def test_its_name_may_have_been_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_verification: Callable[[], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EnvironmentFailure):
        convert(SAMPLE, "q4_0", "x.gguf")
    Path("x.gguf").write_text("mine")
    with pytest.raises(OutputError, match=r"x\.gguf: exists already; move it away"):
        verify_output("x.gguf.unverified", SAMPLE)
    assert Path("x.gguf").read_text() == "mine"


def test_another_method_does_not_take_what_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_verification: Callable[[], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EnvironmentFailure):
        convert(SAMPLE, "q4_0", "x.gguf")
    no_verification()
    result = convert(SAMPLE, "q8_0", "x.gguf")
    assert not result.resumed and result.tensor_types["blk.0.attn_q.weight"] == "q8_0"


def test_any_file_is_verified_at_any_time(tmp_path: Path) -> None:
    made = convert(SAMPLE, "q4_0", tmp_path / "x.gguf", verify="none", catalogue="").output
    outcome = command("verify", made, "--model", SAMPLE)
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"{made}: faithful over ")
    coarse = convert(SAMPLE, "q2_k", tmp_path / "y.gguf", verify="none", catalogue="").output
    before = coarse.read_bytes()
    outcome = command("verify", coarse, "--model", SAMPLE, "--method", "q8_0")
    assert outcome.code == 1 and "not faithful" in outcome.err
    assert coarse.read_bytes() == before  # what has its name keeps it


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("missing.gguf", "missing.gguf: no such file or directory; give the output to verify"),
        ("unnamed", "unnamed: does not say which method made it; pass --method with the one"),
    ],
)
def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("unnamed").mkdir()
    Path("unnamed/config.json").write_text('{"quantization_config": {"quant_method": "new"}}')
    with pytest.raises(ConversionError) as failure:
        verify_output(output, SAMPLE)
    assert str(failure.value).startswith(message)


def test_a_full_verification_that_cannot_fit_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("converter.verification.memory.available_memory", lambda: memory.Available(100_000_000, "free"))
    outcome = command("--method", "q4_0", "--model", SAMPLE, "--output", tmp_path / "x.gguf", "--verify", "full")
    assert outcome.code == 3
    assert "0.1 GB free" in outcome.err and "--verify load" in outcome.err
    assert not list(tmp_path.iterdir())
    told = convert(SAMPLE, "q4_0", tmp_path / "x.gguf", verify="full", dry_run=True).warnings
    assert any("0.1 GB free" in warning for warning in told)
