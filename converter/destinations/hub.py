"""Uploads to the Hugging Face Hub."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, constants, errors
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

from converter.destinations.store import Progress, Uploads
from converter.errors import OutputError, UsageError
from converter.sources.address import HubAddress, address_of
from converter.sources.hub_refusals import HTTP_ERROR, status_of
from converter.sources.retry import asked
from converter.sources.stores import first_line

#: Roles in an organization that may write to its repositories.
WRITERS = ("write", "admin", "contributor")
CARD = "README.md"

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)

#: What kinds of errors mean to a user.
KINDS: tuple[tuple[type[Exception], str], ...] = (
    (
        errors.LocalTokenNotFoundError,
        "there is no token to write with; set HF_TOKEN to one that may write, from {endpoint}/settings/tokens",
    ),
    (errors.OfflineModeIsEnabled, "HF_HUB_OFFLINE forbids to upload; unset it"),
    (errors.RevisionNotFoundError, "has no such branch; create it first"),
)
#: What statuses of the Hub's answers mean to a user.
STATUSES = {
    401: "the Hub does not accept the token; set HF_TOKEN to one that may write, from {endpoint}/settings/tokens",
    403: "the Hub forbids to write there (403); set HF_TOKEN to a token that may, from {endpoint}/settings/tokens",
    429: "the Hub limits how much may be asked for (429); wait some minutes and upload again",
}


def check_push(repo: str) -> str:
    """Make sure that one may write to a repository, before anything is made for it.

    Args:
        repo: ``organization/name``, or ``name`` for one's own.

    Returns:
        The repository's whole name.

    Raises:
        OutputError: no token, one that is not accepted or may only read, an organization one may not write to, or no
            answer.
        UsageError: that is no repository's name.
    """
    parts = repo.split("/")
    if len(parts) > 2 or not all(_NAME.fullmatch(part) for part in parts):
        raise UsageError(f"--push-to-hub {repo}: expected organization/name, or a name for a repository of yours")
    try:
        user = asked(lambda: HfApi().whoami())
    except Exception as error:  # the client raises errors of the network, of the Hub and of its own
        raise push_refusal(error, repo) from error
    name = str(user.get("name"))
    token = (user.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise OutputError(
            f"{repo}: the token of {name} may only read; set HF_TOKEN to one that may write, from "
            f"{constants.ENDPOINT}/settings/tokens"
        )
    owners = [name, *(one["name"] for one in user.get("orgs") or () if one.get("roleInOrg", "write") in WRITERS)]
    if len(parts) == 2 and parts[0] not in owners:
        raise OutputError(
            f"{repo}: {name} may not write to {parts[0]}; choose a repository of {', '.join(owners)}, or set HF_TOKEN "
            "to the token of somebody who may"
        )
    return repo if len(parts) == 2 else f"{name}/{repo}"


def push_to_hub(
    files: Sequence[Path] | Path,
    repo: str,
    *,
    card: str,
    private: bool = False,
    progress: Progress | None = None,
) -> str:
    """Upload an output with its model card, in one commit; the repository is made if it is not there.

    Args:
        files: files, each to be found under its name, or a directory, whose contents are.
        repo: ``organization/name``, as :func:`check_push` returns it.
        card: text of the model card, ``README.md``; it replaces one that is among the files.
        private: make a new repository private.
        progress: told of each file that has arrived.

    Returns:
        The repository's page.

    Raises:
        OutputError: the upload failed; the files are kept, and the line says where.
    """
    if isinstance(files, Path):
        uploads = [(file, file.relative_to(files).as_posix()) for file in sorted(files.rglob("*")) if file.is_file()]
        kept = files
    else:
        uploads, kept = [(file, file.name) for file in files], files[0]
    additions = [addition(name, file) for file, name in uploads if name != CARD]
    additions.append(CommitOperationAdd(CARD, card.encode()))
    try:
        asked(lambda: HfApi().create_repo(repo, private=private or None, exist_ok=True))
        commit(repo, additions, [file for file, name in uploads if name != CARD], progress or (lambda *_: None))
    except Exception as error:  # the client raises errors of the network, of the Hub and of its own
        raise OutputError(f"{push_refusal(error, repo)}; the converted output is kept as {kept}") from error
    return f"{constants.ENDPOINT}/{repo}"


def addition(name: str, file: Path) -> CommitOperationAdd:
    return CommitOperationAdd(name, str(file))


def commit(
    repo: str,
    additions: Sequence[CommitOperationAdd],
    files: Sequence[Path],
    tell: Progress,
    revision: str | None = None,
) -> None:
    """Upload the contents of files one after the other, then make them all visible at once."""
    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    api, total, done = HfApi(), sum(file.stat().st_size for file in files), 0
    for added, file in zip(additions, files, strict=False):
        tell(file.name, done, total)
        api.preupload_lfs_files(repo, [added], revision=revision, free_memory=False)
        done += file.stat().st_size
        tell(file.name, done, total)
    api.create_commit(
        repo, list(additions), commit_message=f"Upload {files[0].name if files else CARD}", revision=revision
    )


class HubStore:
    """A repository of the Hub as a place for outputs.

    Args:
        url: ``hf://organization/name/file.gguf``, with ``@branch`` behind the name if it isn't ``main``.
    """

    def __init__(self, url: str) -> None:
        parts = url.removeprefix("hf://").split("/")
        if len(parts) < 3 or not isinstance(address := address_of(f"hf://{parts[0]}/{parts[1]}"), HubAddress):
            raise UsageError(f"{url}: expected hf://organization/name/file.gguf")
        self._repo, self._revision = address.repo, address.revision
        self._prefix = f"hf://{parts[0]}/{parts[1]}/"

    def check(self, url: str) -> None:
        check_push(self._repo)

    def holds(self, url: str) -> bool:
        name = url.removeprefix(self._prefix).rstrip("/")
        try:
            found = asked(lambda: HfApi().model_info(self._repo, revision=self._revision)).siblings or ()
        except errors.RepositoryNotFoundError:
            return False
        except Exception as error:  # the client raises errors of the network, of the Hub and of its own
            raise push_refusal(error, self._repo) from error
        return any(one.rfilename == name or one.rfilename.startswith(f"{name}/") for one in found)

    def put(self, uploads: Uploads, tell: Progress) -> None:
        additions = [addition(url.removeprefix(self._prefix), path) for path, url in uploads]
        try:
            asked(lambda: HfApi().create_repo(self._repo, exist_ok=True))
            commit(self._repo, additions, [path for path, _ in uploads], tell, self._revision)
        except Exception as error:  # the client raises errors of the network, of the Hub and of its own
            raise push_refusal(error, self._repo) from error


def push_refusal(error: BaseException, repo: str) -> OutputError:
    """What a failed upload means to a user."""
    while not isinstance(error, (HTTP_ERROR, OSError)) and error.__cause__ is not None:
        error = error.__cause__
    status = status_of(error)
    sentence = next((sentence for kind, sentence in KINDS if isinstance(error, kind)), None)
    if sentence is None and status is not None:
        sentence = STATUSES.get(status, "the Hub answers with an error ({status}): {told}")
    if sentence is None and isinstance(error, (HTTP_ERROR, ConnectionError, TimeoutError)):
        sentence = "{endpoint} cannot be reached ({told}); check the network, or HF_ENDPOINT"
    sentence = sentence or "the upload failed: {told}"
    return OutputError(
        f"{repo}: " + sentence.format(endpoint=constants.ENDPOINT, status=status, told=first_line(error))
    )
