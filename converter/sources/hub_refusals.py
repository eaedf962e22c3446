"""What the Hub's refusals mean to a user: one line each, with what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from huggingface_hub import constants, errors

from converter.errors import CheckpointError
from converter.sources.stores import first_line

#: Statuses after which the same request may succeed later.
PASSING = (408, 429, 500, 502, 503, 504)

#: Failures of the connection itself. Which HTTP library raises them depends on the client's version; its exceptions
#: share this ancestor.
HTTP_ERROR: type[Exception] = next(kind for kind in errors.HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")


_NOT_CACHED = (
    "is not in the cache ({cache}) as a whole and HF_HUB_OFFLINE forbids to ask for it; unset it, or download the "
    "model where there is a network"
)
_NOT_WRITABLE = "{cache} cannot be written ({told}); set HF_HOME to another directory"

#: What kinds of errors mean to a user; the first that fits.
KINDS: tuple[tuple[type[Exception], str], ...] = (
    (errors.OfflineModeIsEnabled, _NOT_CACHED),
    (errors.LocalEntryNotFoundError, _NOT_CACHED),
    (
        errors.GatedRepoError,
        "its authors restrict access; accept their conditions at {page} and set HF_TOKEN to a token of yours",
    ),
    (
        errors.RevisionNotFoundError,
        "has no revision {revision}; its branches and tags are listed at {page}/tree/main",
    ),
    (errors.RemoteEntryNotFoundError, "a file that it lists is not there; see {page}/tree/main"),
    (
        errors.RepositoryNotFoundError,
        "no such directory here and no such model at {endpoint}; check the spelling, and set HF_TOKEN if it is a "
        "private one",
    ),
)
#: What statuses of the Hub's answers mean to a user.
STATUSES = {
    401: "the Hub does not accept the token; set HF_TOKEN to one from {endpoint}/settings/tokens or unset it",
    403: "the Hub forbids it (403); set HF_TOKEN to a token that may read this model",
    429: "the Hub limits how much may be asked for (429); wait some minutes, or set HF_TOKEN for a higher limit",
}
#: What the operating system's errors mean to a user.
NUMBERS = dict.fromkeys(
    (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST), _NOT_WRITABLE
) | dict.fromkeys(
    (errno.ENOSPC, errno.EDQUOT),
    "the disk of {cache} is full; free some space, set HF_HOME to another disk, or pass --stream to store nothing",
)


def failures() -> tuple[type[Exception], ...]:
    """All that a call of the client may raise when the other side, the network or the disk fails."""
    return (HTTP_ERROR, OSError, errors.EntryNotFoundError, errors.HFValidationError)


def is_unreachable(error: BaseException) -> bool:
    """Whether nobody answered, or only to say that the service is down; a cached copy will do then."""
    status = status_of(error)
    if status is not None:
        return status >= 500
    return isinstance(error, (HTTP_ERROR, errors.OfflineModeIsEnabled, ConnectionError, TimeoutError))


def status_of(error: BaseException) -> int | None:
    """The HTTP status of a refusal; None where there was no answer."""
    if not isinstance(error, errors.HfHubHTTPError):
        return None
    return getattr(error.response, "status_code", None)


def hub_refusal(error: BaseException, where: str, repo: str, revision: str | None = None) -> CheckpointError:
    """The refusal of a failed request.

    Args:
        error: what the client raised.
        where: what the user gave.
        repo: the repository.
        revision: what was asked for.
    """
    cause = next(reversed(list(_causes(error))))
    return CheckpointError(f"{where}: {_sentence(cause, repo, revision)}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what was wrong in the first place where the client only says that a file is not there."""
    yield error
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        yield from _causes(error.__cause__)


def _sentence(error: BaseException, repo: str, revision: str | None) -> str:
    status, number = status_of(error), error.errno if isinstance(error, OSError) else None
    sentence = next((sentence for kind, sentence in KINDS if isinstance(error, kind)), None)
    if sentence is None and status is not None:
        sentence = STATUSES.get(status, "the Hub answers with an error ({status}); try again later")
    if sentence is None and number is not None:
        sentence = NUMBERS.get(number)
    if sentence is None and isinstance(error, (HTTP_ERROR, ConnectionError, TimeoutError)):
        sentence = "{endpoint} cannot be reached ({told}); check the network, or HF_ENDPOINT"
    return (sentence or "cannot be downloaded: {told}").format(
        page=f"{constants.ENDPOINT}/{repo}",
        endpoint=constants.ENDPOINT,
        cache=constants.HF_HUB_CACHE,
        revision=revision or constants.DEFAULT_REVISION,
        status=status,
        told=first_line(error),
    )
