"""Stores that fsspec opens, and what their refusals mean to a user."""

from __future__ import annotations

import errno
from typing import Any

from converter.errors import ConversionError

#: What is asked of a driver beyond its defaults, by scheme: an upload holds parts of 50 MB, ten of them by default.
OPTIONS: dict[str, dict[str, Any]] = {"s3": {"max_concurrency": 3}, "s3a": {"max_concurrency": 3}}


#: The packages that fsspec opens common stores with.
DRIVERS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}


def filesystem(url: str, refusal: type[ConversionError]) -> tuple[Any, str]:
    """The fsspec filesystem of a URL, and the URL's path in it.

    Args:
        url: such as ``s3://bucket/directory``.
        refusal: the kind of error to raise.

    Raises:
        ConversionError: the scheme is unknown, its driver is not installed or rejects the address.
    """
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    scheme = url.partition("://")[0]
    try:
        # Listings are not kept: what is asked for is what is there now.
        store, path = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True, **OPTIONS.get(scheme, {}))
    except ImportError as error:
        raise refusal(
            f"{url}: the driver of {scheme}:// is not installed; pip install {DRIVERS.get(scheme, 'it')} "
            f"({first_line(error)})"
        ) from error
    except ValueError as error:
        raise refusal(
            f"{url}: {scheme}:// is not known; expected s3://, gs://, hf:// or another scheme of fsspec"
        ) from error
    except Exception as error:
        raise store_refusal(error, url, refusal) from error
    return store, path.rstrip("/")


def store_refusal(error: BaseException, url: str, refusal: type[ConversionError]) -> ConversionError:
    """The refusal of a failed request.

    Args:
        error: what the driver raised; each has kinds of its own besides Python's.
        url: what was asked for.
        refusal: the kind of error to make.
    """
    told = first_line(error)
    if isinstance(error, FileNotFoundError):
        return refusal(f"{url}: no such bucket, file or directory; check the address")
    if isinstance(error, PermissionError):
        return refusal(f"{url}: access is denied ({told}); check the credentials and what they permit")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return refusal(f"{url}: no space left; free some")
    return refusal(f"{url}: cannot be reached: {told}; check the address, the credentials and the network")


def first_line(error: BaseException) -> str:
    """A stranger's error as part of a line."""
    lines = str(error).split("\n")
    text = next((line.strip() for line in lines if line.strip()), type(error).__name__)
    return text if len(text) <= 200 else f"{text[:197]}..."
