"""Uploads to the Hub with a model card: the whole protocol with the real client, and every refusal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hub_server import HubServer
from huggingface_hub import constants

from converter.destinations import CardFacts, check_push, model_card, push_to_hub
from converter.destinations.card import File, digested, inherited_facts, measured
from converter.errors import ConversionError, OutputError, UsageError
from converter.pipeline.delivery import card_facts
from converter.result import Result
from converter.sources import Source, retry
from converter.verification import Verification

SOURCE_CARD = """---
license: apache-2.0
language: [en, fr]
pipeline_tag: text-generation
tags: [chat]
datasets: [lab/words]
---
# The source
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub with a writer's token in the environment."""
    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "no-tokens"))
        monkeypatch.setenv("HF_TOKEN", "hf_writer")
        monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
        yield server


def refused(repo: str, kind: type[ConversionError] = OutputError) -> str:
    with pytest.raises(kind) as caught:
        check_push(repo)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def facts(**changes: object) -> CardFacts:
    given = {
        "repo": "lab/sample-GGUF",
        "name": "sample",
        "method": "q4_0",
        "output_format": "gguf",
        "files": [File("sample-q4_0.gguf", 1_500_000, "ab" * 32)],
        "weights": 2_885_888,
        "bits_per_weight": 4.5031,
        "source_bytes": 5_771_776,
        "base_model": "lab/sample",
        "commit": "0123456789abcdef" * 2,
        "source_card": SOURCE_CARD,
    }
    return CardFacts(**{**given, **changes})  # type: ignore[arg-type]


def test_a_file_is_uploaded_with_its_card(hub: HubServer, tmp_path: Path) -> None:
    content = b"GGUF" + bytes(range(256)) * 1000
    file = tmp_path / "sample-q4_0.gguf"
    file.write_bytes(content)
    told: list[tuple[str, int, int]] = []
    repo = check_push("lab/sample-GGUF")
    page = push_to_hub([file], repo, card="# card\n", progress=lambda *step: told.append(step))
    assert page == f"{hub.endpoint}/lab/sample-GGUF"
    repository = hub.repositories["lab/sample-GGUF"]
    assert repository.files == {"sample-q4_0.gguf": content, "README.md": b"# card\n"}
    assert not repository.private
    assert hub.uploaded.keys() == {hashlib.sha256(content).hexdigest()}
    assert len(hub.asked("hub", "POST", "/commit/")) == 1
    assert told[-1] == ("sample-q4_0.gguf", len(content), len(content))
    assert file.exists()


def test_a_directory_is_uploaded_whole(hub: HubServer, tmp_path: Path) -> None:
    folder = tmp_path / "sample-q8_0-safetensors"
    (folder / "extra").mkdir(parents=True)
    files = {"config.json": b"{}", "model.safetensors": b"weights", "README.md": b"old", "extra/x.jinja": b"x"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    push_to_hub(folder, check_push("sample-q8"), card="# new\n", private=True)
    assert hub.repositories["ada/sample-q8"].files == files | {"README.md": b"# new\n"}
    assert hub.repositories["ada/sample-q8"].private


def test_a_repository_that_is_there_gets_another_file(hub: HubServer, tmp_path: Path) -> None:
    hub.add("lab/sample-GGUF", {"sample-q8_0.gguf": b"eight", "README.md": b"old"})
    file = tmp_path / "sample-q4_0.gguf"
    file.write_bytes(b"four")
    push_to_hub([file], "lab/sample-GGUF", card="new")
    files = {"sample-q8_0.gguf": b"eight", "sample-q4_0.gguf": b"four", "README.md": b"new"}
    assert hub.repositories["lab/sample-GGUF"].files == files


@pytest.mark.parametrize(
    ("token", "repo", "told"),
    [
        ("hf_reader", "lab/x", "the token of ada may only read; set HF_TOKEN to one that may write, from "),
        ("hf_wrong", "lab/x", "the Hub does not accept the token; set HF_TOKEN to one that may write, from "),
        ("", "lab/x", "there is no token to write with; set HF_TOKEN to one that may write, from "),
        ("hf_writer", "museum/x", "ada may not write to museum; choose a repository of ada, lab, or set HF_TOKEN"),
        ("hf_writer", "stranger/x", "ada may not write to stranger; choose a repository of ada, lab, or set HF_TOKEN"),
    ],
)
def test_who_may_not_write_is_told_before(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, token: str, repo: str, told: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    assert refused(repo).startswith(f"{repo}: {told}")


@pytest.mark.parametrize("repo", ["a/b/c", "a b", "", "/x", "-x"])
def test_names_that_are_none(hub: HubServer, repo: str) -> None:
    assert "expected organization/name, or a name for a repository of yours" in refused(repo, UsageError)
    assert not hub.requests


def test_limits_and_failures_of_the_hub(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.faults.limited = 2
    assert check_push("x") == "ada/x"
    hub.faults.down = 100
    assert "the Hub answers with an error (503)" in refused("x")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert refused("x") == "x: HF_HUB_OFFLINE forbids to upload; unset it"


def test_a_failed_upload_says_where_the_file_is(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sample.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    with pytest.raises(OutputError) as caught:
        push_to_hub([file], "lab/sample", card="#")
    assert str(caught.value) == (
        "lab/sample: the Hub forbids to write there (403); set HF_TOKEN to a token that may, from "
        f"{hub.endpoint}/settings/tokens; the converted output is kept as {file}"
    )
    assert file.exists()


def test_the_card_s_front_matter() -> None:
    text = model_card(facts())
    assert text.startswith("---\n")
    front = yaml.safe_load(text.split("---")[1])
    assert front == {
        "base_model": "lab/sample",
        "base_model_relation": "quantized",
        "library_name": "gguf",
        "license": "apache-2.0",
        "language": ["en", "fr"],
        "pipeline_tag": "text-generation",
        "tags": ["gguf", "q4_0", "quantized"],
    }
    from huggingface_hub import ModelCard

    assert ModelCard(text).data.base_model == "lab/sample"


def test_the_card_s_text() -> None:
    text = model_card(facts())
    assert "# sample, q4_0" in text
    assert "[lab/sample](https://huggingface.co/lab/sample) at commit `0123456789ab`" in text
    assert "| bits per weight | 4.50 |" in text
    assert "| size | 1.50 MB (source: 5.77 MB) |" in text
    assert f"| `sample-q4_0.gguf` | 1,500,000 | `{'ab' * 32}` |" in text
    assert "llama-cli --hf-repo lab/sample-GGUF --hf-file sample-q4_0.gguf" in text
    assert "ollama run hf.co/lab/sample-GGUF:Q4_0" in text
    assert "perplexity" not in text
    assert "KL" not in text
    other = model_card(facts(output_format="safetensors", base_model=None, commit=None, source_card=""))
    assert 'AutoModelForCausalLM.from_pretrained("lab/sample-GGUF")' in other
    assert "base_model" not in other
    assert "sample, converted to safetensors with method `q4_0`." in other


def source_of(origin: str) -> Source:
    return Source("sample", Path("sample"), origin=origin, name="sample")


def test_quality_is_told_where_it_was_measured(tmp_path: Path) -> None:
    file = tmp_path / "sample-q4_0.gguf"
    file.write_bytes(b"GGUF")
    full = Verification("full", True, "fine", mean_kl=0.0123456, top1_agreement=0.9312, file_perplexity=17.1)
    made = Result(file, "q4_0", 100, 4, 10, 4.5, {}, {}, {}, files=(file,), verification=full)
    found = card_facts(made, source_of(f"hub:lab/sample@{'1' * 40}"), "lab/x")
    assert (found.base_model, found.commit) == ("lab/sample", "1" * 40)
    assert found.files == [File("sample-q4_0.gguf", 4, hashlib.sha256(b"GGUF").hexdigest())]
    text = model_card(found)
    assert "| mean KL divergence from the source, nats per token | 0.01235 |" in text
    assert "| same most likely token as the source | 93.12% |" in text
    assert "perplexity of the source" not in text
    assert measured({"mean_kl": None}) == {}
    local = card_facts(made, source_of("/models/sample"), "lab/x")
    assert (local.base_model, local.commit) == (None, None)
    assert digested(file).nbytes == 4


@pytest.mark.parametrize(
    "card",
    [
        "no front matter",
        "---\n: [broken\n---\n",
        "---\n- a\n- list\n---\n",
        f"---\nlicense: {json.dumps({'a': 1})}\n---\n",
        "---\nlicense: 7\n---\n",
        f"---\nlicense: {'x' * 1000}\n---\n",
        '---\nlicense: "mit\\nbase_model: evil/model"\n---\n',
        "---\nlicense: !!python/object/apply:os.system [true]\n---\n",
    ],
)
def test_a_stranger_s_card_is_not_trusted(card: str) -> None:
    assert inherited_facts(card) == {}
