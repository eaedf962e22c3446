"""A server, and a GGUF of the sample model to give it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import convert
from ollama_models.ollama_stub import OllamaStub, serving

SAMPLE = Path(__file__).parents[1] / "fixtures" / "sample"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OllamaStub]:
    """Empty, of a version that takes single files; OLLAMA_HOST names it."""
    with serving(OllamaStub()) as stub:
        monkeypatch.setenv("OLLAMA_HOST", stub.url)
        yield stub


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample model in q8_0."""
    path = tmp_path_factory.mktemp("gguf") / "sample-q8_0.gguf"
    outcome = convert("--model", SAMPLE, "--method", "q8_0", "--output", path, "--verify", "none", "--quiet")
    assert outcome.code == 0, outcome
    return path
