"""What ``--model`` means: a path here, a repository of the Hugging Face Hub, or an address of another store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from converter.errors import UsageError

#: Revisions with a slash in them, as the Hub's own addresses allow: pull requests and conversions.
_REVISION = r"refs/(?:pr/\d+|convert/[\w.-]+)|[^/:@\s]+"
_PART = r"[A-Za-z0-9][\w.-]*"
_HUB = re.compile(
    rf"(?P<repo>{_PART}/{_PART})(?:@(?P<revision>{_REVISION}))?(?:/(?P<file>[^\s:]+\.gguf)|:(?P<tag>[\w.-]+))?",
    re.ASCII,
)
_PAGE = re.compile(
    rf"https?://(?:huggingface\.co|hf\.co)/(?P<repo>{_PART}/{_PART})"
    rf"(?:/(?:tree|blob|resolve)/(?P<revision>{_REVISION})(?:/(?P<file>[^\s?]+\.gguf))?)?/?(?:\?.*)?",
    re.ASCII,
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
#: A last part that names a file, so that ``folder/model.gguf`` is no repository.
_FILE = re.compile(r".*\.(?:gguf|safetensors|bin|pt|pth|json|ya?ml)", re.IGNORECASE)


@dataclass(frozen=True)
class HubAddress:
    """A model repository of the Hub.

    Attributes:
        repo: ``organization/name``.
        revision: branch, tag, commit or pull request; None for the default branch.
        file: path of a GGUF file in it.
        tag: what the name of the wanted GGUF file ends with, such as ``Q4_K_M``.
    """

    repo: str
    revision: str | None = None
    file: str | None = None
    tag: str | None = None


@dataclass(frozen=True)
class Url:
    """An address that fsspec opens, such as ``s3://bucket/directory``."""

    url: str


def address_of(model: str | Path) -> Path | HubAddress | Url:
    """Say what a ``--model`` means. A path that exists is meant before anything else.

    Hub repositories are ``organization/name``, with ``@revision``, with the path of a GGUF file behind another slash
    or its quantization behind a colon; ``hf://`` before it and an address of the Hub's pages say the same.

    Raises:
        UsageError: ``hf://`` is followed by something else, or ``file://`` names another machine.
    """
    text = str(model)
    if exists(text):
        return Path(text)
    if text.startswith("file://"):
        return local_path(text)
    if match := _PAGE.fullmatch(text):
        return _hub(match)
    bare = text.removeprefix("hf://")
    match = _HUB.fullmatch(bare.rstrip("/") if bare != text else bare)
    if match and not (_FILE.fullmatch(match["repo"]) and bare == text):
        return _hub(match)
    if bare != text:
        raise UsageError(
            f"{text}: expected hf://organization/name, hf://organization/name@revision or a .gguf file in it"
        )
    return Url(text) if _SCHEME.match(text) else Path(text)


def exists(path: str) -> bool:
    """Whether there is such a path; one that cannot be is not."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def local_path(url: str) -> Path:
    """The path that a ``file://`` address names.

    Raises:
        UsageError: it names a file of another machine.
    """
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(f"{url}: names a file of the machine {parts.netloc}; expected file:///path")
    return Path(url2pathname(parts.path))


def _hub(match: re.Match[str]) -> HubAddress:
    found = match.groupdict()
    revision, file = found.get("revision"), found.get("file")
    return HubAddress(found["repo"], revision and unquote(revision), file and unquote(file), found.get("tag"))
