"""Where a model may lie: on this machine, on the Hugging Face Hub, or in any store that fsspec knows."""

from __future__ import annotations

from pathlib import Path

from converter.errors import CheckpointError, UsageError
from converter.sources.address import HubAddress, Url, address_of, exists
from converter.sources.missing import explain, nearby
from converter.sources.selection import stem
from converter.sources.source import Progress, Source, no_progress

__all__ = ["Progress", "Source", "is_remote", "open_source"]


def open_source(
    model: str | Path, *, stream: bool = False, weights: bool = True, progress: Progress | None = None
) -> Source:
    """Find a model and bring here what a conversion needs of it.

    Args:
        model: a directory or GGUF file; ``organization/name[@revision]`` of the Hub, with ``/file.gguf`` or
            ``:quantization`` for a GGUF file of it, and ``hf://`` before it if you like; or a URL such as
            ``s3://bucket/directory``. A path that exists is meant before anything else.
        stream: read the Hub's weights by ranges while they are converted, store none of them. A URL's always are.
        weights: have the weights too; without them, only the small files.
        progress: told of downloads, from any thread.

    Returns:
        The source.

    Raises:
        CheckpointError: it is not there, or cannot be found, read or stored; one line.
        UsageError: the address is malformed, or ``stream`` is asked for a model on this machine.
    """
    address = address_of(model)
    tell = progress or no_progress
    if isinstance(address, HubAddress):
        from converter.sources.hub import open_hub

        try:
            return open_hub(str(model), address, stream=stream, weights=weights, tell=tell)
        except CheckpointError as error:
            if near := nearby(str(model)):
                raise CheckpointError(f"{error}; or did you mean {near}?") from error
            raise
    if isinstance(address, Url):
        from converter.sources.url import open_url

        return open_url(address.url, weights=weights, tell=tell)
    if stream and exists(str(address)):
        raise UsageError(f"{address}: lies on this machine already; remove --stream")
    if not exists(str(address)):
        raise CheckpointError(f"{model}: {explain(str(model))}")
    path = address.absolute()
    return Source(str(model), address, origin=str(path), name=stem(path.resolve().name))


def is_remote(model: str | Path) -> bool:
    """Whether a ``--model`` names something that is not on this machine."""
    return not isinstance(address_of(model), Path)
