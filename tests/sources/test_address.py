"""What ``--model`` may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.errors import UsageError
from converter.sources import is_remote
from converter.sources.address import HubAddress, Url, address_of

COMMIT = "0123456789" * 4


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("lab/model", HubAddress("lab/model")),
        ("lab/model@v1.0", HubAddress("lab/model", "v1.0")),
        (f"lab/model@{COMMIT}", HubAddress("lab/model", COMMIT)),
        ("lab/model@refs/pr/7", HubAddress("lab/model", "refs/pr/7")),
        ("lab/model@refs%2Fpr%2F7", HubAddress("lab/model", "refs/pr/7")),
        ("lab/model:Q4_K_M", HubAddress("lab/model", tag="Q4_K_M")),
        ("lab/model@v1:Q4_K_M", HubAddress("lab/model", "v1", tag="Q4_K_M")),
        ("lab/model/m.gguf", HubAddress("lab/model", file="m.gguf")),
        ("lab/model@v1/Q4/m-00001-of-00002.gguf", HubAddress("lab/model", "v1", "Q4/m-00001-of-00002.gguf")),
        ("hf://lab/model", HubAddress("lab/model")),
        ("hf://lab/model/", HubAddress("lab/model")),
        ("hf://lab/model@refs/pr/7/m.gguf", HubAddress("lab/model", "refs/pr/7", "m.gguf")),
        ("https://huggingface.co/lab/model", HubAddress("lab/model")),
        ("https://huggingface.co/lab/model/tree/v1", HubAddress("lab/model", "v1")),
        ("https://hf.co/lab/model/blob/main/m.gguf", HubAddress("lab/model", "main", "m.gguf")),
        (
            "https://huggingface.co/lab/model/resolve/main/m.gguf?download=true",
            HubAddress("lab/model", "main", "m.gguf"),
        ),
        ("s3://bucket/model", Url("s3://bucket/model")),
        ("gs://bucket/model.gguf", Url("gs://bucket/model.gguf")),
        ("https://example.org/m.gguf", Url("https://example.org/m.gguf")),
        ("file:///a/b", Path("/a/b")),
        ("file://localhost/a%20b", Path("/a b")),
        ("./lab/model", Path("./lab/model")),
        ("../model", Path("../model")),
        ("/lab/model", Path("/lab/model")),
        ("lab/model/", Path("lab/model")),
        ("a/b/c", Path("a/b/c")),
        ("folder/model.gguf", Path("folder/model.gguf")),
        ("folder/model.safetensors", Path("folder/model.safetensors")),
        ("model", Path("model")),
        ("lab/mo del", Path("lab/mo del")),
        ("x" * 5000, Path("x" * 5000)),
        ("x\0y", Path("x\0y")),
    ],
)
def test_meanings(text: str, meaning: Path | HubAddress | Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert address_of(text) == meaning
    assert is_remote(text) is not isinstance(meaning, Path)


@pytest.mark.parametrize("text", ["hf://", "hf://model", "hf://datasets/lab/words", "hf://lab/model/config.json"])
def test_no_model_of_the_hub(text: str) -> None:
    with pytest.raises(UsageError, match="expected hf://organization/name"):
        address_of(text)


def test_what_exists_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab" / "model").mkdir(parents=True)
    assert address_of("lab/model") == Path("lab/model")
    assert address_of("lab/other") == HubAddress("lab/other")
