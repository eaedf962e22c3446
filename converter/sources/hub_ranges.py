"""Ranges of a file on the Hub, by HTTP.

The Hub answers for small files itself and redirects to signed addresses of a storage network for large ones. Such an
address is used until it expires, and never sees the token: that belongs to the Hub alone.
"""

from __future__ import annotations

import re
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import constants, get_hf_file_metadata, get_session, hf_hub_url
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

from converter.errors import CheckpointError
from converter.sources.hub_refusals import HTTP_ERROR, PASSING, hub_refusal, status_of
from converter.sources.remote_file import UnreachableSource
from converter.sources.retry import ATTEMPTS, LONGEST_PAUSE, asked, headers_of, pause_before

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
#: What a signed address answers when its time is over.
_EXPIRED = (401, 403, 404, 410)


class HubRanges:
    """One file of a repository at a commit.

    Args:
        repo: the repository.
        commit: 40 hex digits.
        name: the file's path in it.
        size: in bytes, as the Hub lists it.
        version: SHA-256 of its contents, or its git hash, as the Hub lists it.
    """

    def __init__(self, repo: str, commit: str, name: str, size: int, version: str) -> None:
        self.url = f"hf://{repo}@{commit}/{name}"
        self.size = size
        self.version = version
        self._repo = repo
        self._page = hf_hub_url(repo, name, revision=commit, endpoint=constants.ENDPOINT)
        self._headers = build_hf_headers()
        self._location: str | None = None
        self._lock = threading.Lock()

    def read(self, offset: int, count: int) -> bytearray:
        """The bytes ``offset`` to ``offset + count``; a dropped connection is taken up where it broke off.

        Raises:
            CheckpointError: the file is not what was listed, or may not be read.
            UnreachableSource: it cannot be had after several attempts.
        """
        received, attempt = bytearray(), 0
        while len(received) < count:
            before, failure = len(received), None
            try:
                self._receive(received, offset, count)
            except HTTP_ERROR as error:
                failure = error
            if len(received) > before:
                attempt = 0
                continue
            attempt += 1
            if failure is None:
                if attempt == ATTEMPTS:
                    raise UnreachableSource(
                        CheckpointError(
                            f"{self.url}: the address that the Hub gives for it is refused; try again later"
                        )
                    )
                continue
            pause = pause_before(attempt - 1, headers_of(failure))
            refusal = hub_refusal(failure, self.url, self._repo)
            if status_of(failure) not in (None, *PASSING):
                raise refusal from failure
            if attempt == ATTEMPTS or pause > LONGEST_PAUSE:
                raise UnreachableSource(refusal) from failure
            time.sleep(pause)
        return received

    def _receive(self, received: bytearray, offset: int, count: int) -> None:
        """Ask for what is missing and add what comes; nothing where the address has expired."""
        location, headers = self._where()
        first, last = offset + len(received), offset + count - 1
        wanted = {**headers, "Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", location, headers=wanted, timeout=timeout) as response:
            if response.status_code in _EXPIRED and self._forget(location):
                return
            if response.status_code == 416:
                raise self._changed(f"has no bytes {first} to {last}")
            hf_raise_for_status(response)
            self._check(response, first, last)
            for part in response.iter_raw():
                received += part
                if len(received) > count:
                    raise self._changed(f"sent more than the {count} bytes asked for")

    def _check(self, response: Any, first: int, last: int) -> None:
        """Refuse an answer that is not the range asked for, or a range of another file."""
        if response.status_code != 206:
            raise CheckpointError(
                f"{self.url}: the server sends the whole file where a range was asked for; remove --stream to "
                "download it"
            )
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or (int(match[1]), int(match[2])) != (first, last):
            raise self._changed(f"bytes {first} to {last} asked for, {response.headers.get('Content-Range')} sent")
        if int(match[3]) != self.size:
            raise self._changed(f"has {match[3]} bytes now, {self.size} expected")

    def _where(self) -> tuple[str, dict[str, str]]:
        """The address to ask at present and the headers to send there."""
        with self._lock:
            if self._location is None:
                found = asked(lambda: get_hf_file_metadata(self._page, endpoint=constants.ENDPOINT))
                if found.size not in (None, self.size) or found.etag not in (None, self.version):
                    raise self._changed(f"has {found.size} bytes and ETag {found.etag} now, {self.version} expected")
                self._location = found.location
            location = self._location
        return location, self._headers if _origin(location) == _origin(self._page) else {}

    def _forget(self, location: str) -> bool:
        """Give up an address that expired; False where it is the Hub's own, whose refusal counts."""
        if _origin(location) == _origin(self._page):
            return False
        with self._lock:
            if self._location == location:
                self._location = None
        return True

    def _changed(self, how: str) -> CheckpointError:
        return CheckpointError(f"{self.url}: is not what the Hub listed: {how}; run the same command again")


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
