"""Asking again: what passes by itself is waited for, as long as the other side says or twice as long each time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from converter.sources.hub_refusals import HTTP_ERROR, PASSING, status_of

ATTEMPTS = 6
#: Seconds before the second attempt; doubled before each further one.
FIRST_PAUSE = 1.0
#: A longer wait than this is not sat out but told.
LONGEST_PAUSE = 300.0

Answer = TypeVar("Answer")


def asked(request: Callable[[], Answer], *, lost: bool = False) -> Answer:
    """The answer to a request of the Hub's API, repeated while it is limited or down for a moment.

    Args:
        request: asks once.
        lost: ask again where there was no answer, too. Not so for the first request of all: without a network, the
            cache is the answer.

    Raises:
        Exception: what the request raised at last.
    """
    worth = (*PASSING, None) if lost else PASSING
    for attempt in range(ATTEMPTS):
        try:
            return request()
        except HTTP_ERROR as error:
            pause = pause_before(attempt, headers_of(error))
            if status_of(error) not in worth or attempt + 1 == ATTEMPTS or pause > LONGEST_PAUSE:
                raise
            time.sleep(pause)
    raise AssertionError("the last attempt answers or raises")


def pause_before(attempt: int, headers: dict[str, str]) -> float:
    """Seconds to wait after the attempt of this number, counted from 0.

    Args:
        attempt: how many were made before.
        headers: of the answer, names in lower case; ``Retry-After`` in seconds (RFC 9110, 10.2.3) counts.
    """
    told = headers.get("retry-after", "")
    return float(told) if told.isdecimal() else FIRST_PAUSE * 2.0**attempt


def headers_of(error: Exception) -> dict[str, str]:
    """Headers of the answer that an error came with, names in lower case; none without an answer."""
    response = getattr(error, "response", None)
    return {name.lower(): value for name, value in response.headers.items()} if response is not None else {}
