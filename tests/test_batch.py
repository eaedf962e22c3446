"""Batches: what a file expands to, what runs, what a failure, a kill and a second batch do."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import llama_cpp_oracle as oracle
import pytest
from batch_files import catalogue, rows, sha256, write
from checkpoint_builder import write_model
from command_line import Outcome, convert, refusal
from hub_server import HubServer

SAMPLE = Path(__file__).parent / "fixtures" / "sample"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def batch(*options: object, **content: Any) -> Outcome:
    return convert("batch", write(**content), *options)


def test_models_by_methods_become_llama_cpps_bytes(here: Path) -> None:
    other = {"model_name": str(write_model(here / "other", "qwen2")), "verify": "none"}
    outcome = batch(models=[str(SAMPLE), other], methods=["f32", "q4_0"])
    assert outcome.code == 0, outcome.err
    assert [row[:2] for row in rows(outcome.out)] == [
        [f"{model}-{method}.gguf", "done"] for model in ("sample", "other") for method in ("f32", "q4_0")
    ]
    assert outcome.err.splitlines()[-1][9:].startswith("4 done, 0 kept, 0 failed in ")
    for model in ("sample", "other"):
        oracle.quantize(here / "out" / f"{model}-f32.gguf", here / "reference.gguf", 2)
        assert oracle.tensors(here / "out" / f"{model}-q4_0.gguf") == oracle.tensors(here / "reference.gguf")
    known = catalogue()
    assert sorted(known) == sorted(path.name for path in (here / "out").glob("*.gguf"))
    assert all(record[-1] == sha256(here / "out" / name) for name, record in known.items())
    assert [record[2] for record in known.values()] == [1, 1, None, None]
    assert not (here / "out" / ".batch.lock").exists()


def test_layers_of_choices(here: Path) -> None:
    outcome = batch(
        "--dry-run",
        defaults={"verify": "none", "recipe": {"output_type": "q8_0"}},
        models=[str(SAMPLE), {"model_name": str(SAMPLE), "name": "twin", "output": "{model}/{method}.{format}"}],
        methods=["q4_0", {"method": "q4_0", "name": "pure", "recipe": {"pure": True}, "verify": "full"}],
        exclude=[{"model": "sample", "method": "pure"}],
        jobs=[{"model": "twin", "method": "pure", "output": "x.gguf", "verify": "load"}],
    )
    assert outcome.code == 0, outcome.err
    sample = str(SAMPLE)
    assert rows(outcome.out) == [
        ["1", sample, "q4_0", "gguf", "none", "out/sample-q4_0.gguf"],
        ["1", sample, "q4_0", "gguf", "none", "out/twin/q4_0.gguf"],
        ["1", sample, "q4_0", "gguf", "full", "out/twin/pure.gguf"],
        ["1", sample, "q4_0", "gguf", "load", "out/x.gguf"],
    ]
    assert not (here / "out").exists()


def test_recipes_of_all_layers_count(here: Path) -> None:
    outcome = batch(
        defaults={"verify": "none", "recipe": {"tensor_types": {"ffn_down": "q8_0"}}},
        models=[str(SAMPLE)],
        methods=["q4_0", {"method": "q4_0", "name": "own", "recipe": {"output_type": "f16"}}],
    )
    assert outcome.code == 0, outcome.err
    plain, own = (oracle.tensors(Path("out") / f"sample-{name}.gguf") for name in ("q4_0", "own"))
    assert (plain["blk.0.ffn_down.weight"][0], plain["output.weight"][0]) == (8, 14)
    assert (own["blk.0.ffn_down.weight"][0], own["output.weight"][0]) == (8, 1)


def test_each_model_is_read_once_for_all_its_methods(here: Path) -> None:
    content = {"models": [str(SAMPLE)], "methods": ["q4_0", "q8_0", "f16"], "defaults": {"verify": "none"}}
    outcome = batch("--log-json", "--quiet", **content)
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    outcome = batch("--log-json", "--force", "--overwrite", **content)
    events = [json.loads(line) for line in outcome.err.splitlines()]
    assert [event["event"] for event in events].count("writing") == 1
    assert [event["job"] for event in events if event["event"] == "finished"] == [
        f"sample-{method}.gguf" for method in ("q4_0", "q8_0", "f16")
    ]
    assert events[-1]["event"] == "summary"
    assert (events[-1]["done"], events[-1]["failed"]) == (3, 0)


def test_a_failure_does_not_stop_the_rest(here: Path) -> None:
    from safetensors.numpy import load_file, save_file

    broken = write_model(here / "broken", "llama")
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    options = {"models": [str(broken), str(SAMPLE)], "methods": ["q8_0", "iq2_xxs"], "defaults": {"verify": "none"}}
    outcome = batch(**options)
    assert outcome.code == 1
    table = {line.split()[0]: line.split()[1:] for line in outcome.out.splitlines()[1:]}
    assert [table[f"{name}.gguf"][0] for name in ("broken-q8_0", "broken-iq2_xxs", "sample-iq2_xxs")] == ["failed"] * 3
    assert table["sample-q8_0.gguf"][0] == "done"
    assert "NaN" in table["broken-q8_0.gguf"]
    assert "sample-iq2_xxs.gguf: error: " in outcome.err
    assert [path.name for path in Path("out").glob("*.gguf*")] == ["sample-q8_0.gguf"]
    again = batch("--resume", **options)
    assert again.code == 1
    assert {line.split()[0]: line.split()[1] for line in again.out.splitlines()[1:]}["sample-q8_0.gguf"] == "kept"


def test_a_wrong_path_fails_its_job_only(here: Path) -> None:
    text = {"method": "q4_0", "calibrate": ["no.txt"]}
    content = {"models": ["./no", str(SAMPLE)], "methods": ["q8_0", text], "defaults": {"verify": "none"}}
    outcome = batch(**content)
    assert outcome.code == 1
    assert [row[:2] for row in rows(outcome.out)] == [
        ["no-q8_0.gguf", "failed"], ["no-q4_0.gguf", "failed"], ["sample-q8_0.gguf", "done"],
        ["sample-q4_0.gguf", "failed"],
    ]  # fmt: skip
    assert "no-q8_0.gguf: error: model: ./no: no such file or directory" in outcome.err
    assert "sample-q4_0.gguf: error: calibrate: no.txt: no such file or directory" in outcome.err
    again = batch("--resume", **content)
    assert [row[1] for row in rows(again.out)] == ["failed", "failed", "kept", "failed"]
    planned = batch("--dry-run", **content)
    assert "no-q8_0.gguf: model: ./no: no such file or directory" in planned.err


def test_two_models_at_a_time(here: Path) -> None:
    twins = [{"model_name": str(write_model(here / name, "llama")), "name": name} for name in ("one", "two")]
    outcome = batch("--jobs", 2, "--log-json", models=twins, methods=["q8_0"], defaults={"verify": "none"})
    assert outcome.code == 0, outcome.err
    events = [json.loads(line) for line in outcome.err.splitlines()]
    assert [event["event"] for event in events if event["event"] in ("started", "finished")] == [
        "started", "started", "finished", "finished"
    ]  # fmt: skip


def test_a_model_of_the_hub_is_fetched_once_and_known_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"models": ["lab/model"], "methods": ["f32", "q4_0"], "defaults": {"verify": "none", "stream": True}}
    with HubServer() as hub:
        hub.add("lab/model", SAMPLE)
        for name, value in hub.environment(here / "hub").items():
            monkeypatch.setenv(name, value)
        outcome = batch(**content)
        assert outcome.code == 0, outcome.err
        again = batch("--resume", **content)
    assert [row[:2] for row in rows(outcome.out)] == [[f"model-{method}.gguf", "done"] for method in ("f32", "q4_0")]
    assert [row[1] for row in rows(again.out)] == ["kept", "kept"]
    weights = (SAMPLE / "model.safetensors").stat().st_size
    assert sum(path.stat().st_size for path in (here / "hub").rglob("*") if path.is_file()) < weights
    oracle.quantize(here / "out" / "model-f32.gguf", here / "reference.gguf", 2)
    assert oracle.tensors(here / "out" / "model-q4_0.gguf") == oracle.tensors(here / "reference.gguf")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no jobs; expected models and methods, or jobs"),
        ({"models": ["SAMPLE"]}, "no jobs; expected models and methods, or jobs"),
        ({"modles": []}, "modles: unknown key; did you mean 'models'?"),
        ({"models": [{"name": "x"}]}, "models[0].model_name: missing; it is required"),
        ({"models": [{"model_name": "x", "verfy": "load"}]}, "models[0].verfy: unknown key; did you mean 'verify'?"),
        ({"methods": [{"method": "q4_0", "recipe": {"pur": True}}]}, "methods[0].recipe.pur: unknown key; did you mean "
         "'pure'?"),
        ({"defaults": {"verify": "ful"}}, "defaults.verify: 'ful' is not a value; did you mean 'full'?"),
        ({"defaults": 3}, "defaults: 3 found; a mapping of output_format, adapters, leave_out, pre, imatrix, "
         "calibrate, recipe, allow_requantize, split_max_size, split_max_tensors, modelfile, push_to_hub, verify, "
         "batch_size, stream, overwrite, force, output, tokenizer_name, model_kwargs expected"),
        ({"models": "x"}, "models: 'x' found; input should be a valid list"),
        ({"models": [3]}, "models[0]: 3 found; a mapping of output_format, "),
        ({"models": ["SAMPLE"], "methods": ["q8"]}, "models[0] × methods[0]: method 'q8' does not exist; did you mean "
         "q8_0?"),
        ({"models": ["./no"], "methods": ["q8_0"]}, "models[0] × methods[0]: model: ./no: no such file or directory"),
        ({"models": ["SAMPLE"], "methods": ["q8_0"], "defaults": {"imatrix": ["no/ne"]}},
         "models[0] × methods[0]: imatrix: no/ne: no such file or directory"),
        ({"models": ["SAMPLE", "SAMPLE"], "methods": ["q8_0"]}, "models[1]: another one is called 'sample' already; "
         "give one of them a name"),
        ({"models": [{"model_name": "x", "name": "a/b"}]}, "models[0].name: 'a/b' cannot be part of a file's name"),
        ({"models": ["SAMPLE"], "methods": ["q8_0"], "exclude": [{"model": "smple"}]}, "exclude[0].model: 'smple' is "
         "not among models; did you mean 'sample'?"),
        ({"models": ["SAMPLE"], "methods": ["q8_0", "q4_0"], "defaults": {"output": "{model}.gguf"}},
         "models[0] × methods[0] and models[0] × methods[1] both write out/sample.gguf; give one of them a name or an "
         "output"),
        ({"models": ["SAMPLE"], "methods": ["q8_0"], "jobs": [{"model": "SAMPLE", "method": "q8_0"}]},
         "models[0] × methods[0] and jobs[0] both write out/sample-q8_0.gguf; give one of them a name or an output"),
        ({"models": ["SAMPLE"], "methods": ["q8_0"], "defaults": {"output": "{modle}.gguf"}}, "models[0] × methods[0]"
         ": output: template '{modle}.gguf' has no field 'modle'; did you mean 'model'?"),
        ({"models": ["SAMPLE"], "methods": ["q8_0"], "defaults": {"output": "{model"}}, "models[0] × methods[0]: "
         "output: template '{model' is broken: expected '}' before end of string"),
        ({"models": ["SAMPLE"], "methods": ["q8_0"], "defaults": {"output": "{model.__class__}"}}, "models[0] × "
         "methods[0]: output: template '{model.__class__}' has no field 'model.__class__'; did you mean 'model'?"),
        ({"models": ["SAMPLE"], "methods": ["q8_0"], "defaults": {"split_max_size": "4Q"}}, "models[0] × methods[0]: "
         "'4Q' is not a size such as 500M or 4G"),
        ({"models": ["SAMPLE"], "methods": ["q8_0"], "defaults": {"recipe": {"output_type": "q9"}}}, "models[0] × "
         "methods[0]: tensor type 'q9' does not exist; types are "),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anything_starts(here: Path, content: dict[str, Any], message: str) -> None:
    text = json.dumps(content).replace("SAMPLE", str(SAMPLE))
    file = write(**json.loads(text))
    found = refusal("batch", file, code=2)
    assert found.startswith(f"{file}: {message}")
    assert not Path("out").exists()


def test_a_refusal_for_machines(here: Path) -> None:
    outcome = convert("batch", "none.yaml", "--log-json")
    (event,) = [json.loads(line) for line in outcome.err.splitlines()]
    assert (outcome.code, event["event"], event["error"], event["exit_code"]) == (2, "failed", "UsageError", 2)
    assert event["message"].startswith("none.yaml: cannot be read: No such file")


@pytest.mark.parametrize(
    ("text", "message"),
    [("[]", "a mapping with models and methods, or jobs, expected, list found"), ("a: [", "not YAML: ")],
)
def test_files_that_are_no_batch(here: Path, text: str, message: str) -> None:
    Path("batch.yaml").write_text(text)
    assert refusal("batch", "batch.yaml", code=2).startswith(f"batch.yaml: {message}")
    assert refusal("batch", "none.yaml", code=2).startswith("none.yaml: cannot be read: No such file")


def test_two_batches_do_not_fight(here: Path) -> None:
    file = write(models=[str(SAMPLE)], methods=["q8_0"])
    Path("out").mkdir()
    holder = {"process": os.getpid(), "file": "/other.yaml", "since": "2026-01-01T00:00:00+00:00"}
    with Path("out/.batch.lock").open("w") as lock:
        json.dump(holder, lock)
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert refusal("batch", file) == (
            f"out: the batch /other.yaml writes here (process {os.getpid()}, since 2026-01-01T00:00:00+00:00); wait "
            "for it to end"
        )
    assert convert("batch", file).code == 0  # nobody holds the file that was left


def test_an_output_directory_that_cannot_be_made(here: Path) -> None:
    Path("out").write_text("a file")
    assert refusal("batch", write(models=[str(SAMPLE)], methods=["q8_0"])) == "out: cannot be made: File exists"
