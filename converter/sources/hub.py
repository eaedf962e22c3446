"""Models of the Hugging Face Hub: found, pinned to a commit, and brought into the cache that all its tools share."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, errors, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

from converter.errors import CheckpointError
from converter.sources.address import HubAddress
from converter.sources.counter import Counter
from converter.sources.hub_ranges import HubRanges
from converter.sources.hub_refusals import failures, hub_refusal, is_unreachable
from converter.sources.read_ahead import ReadAhead
from converter.sources.remote_file import RemoteFile
from converter.sources.retry import asked
from converter.sources.selection import gguf_files, index_of, parts_of, small_files, stem, weight_files
from converter.sources.source import Progress, Source
from converter.sources.source_file import SourceFile

#: Files on their way at a time.
DOWNLOADS = 4
#: Seconds to wait for an answer of the Hub's API.
TIMEOUT = 30.0


@dataclass(frozen=True)
class Listed:
    """A file as the Hub lists it: bytes, and SHA-256 of the contents or git's hash of it."""

    size: int
    version: str


@dataclass(frozen=True)
class Repository:
    """A repository at one commit.

    Attributes:
        model: what the user gave.
        address: the same, taken apart.
        commit: 40 hex digits.
        files: everything in it, by path.
        online: whether the Hub answers; if not, ``files`` are those of the cache.
    """

    model: str
    address: HubAddress
    commit: str
    files: Mapping[str, Listed]
    online: bool

    @property
    def where(self) -> str:
        return f"{self.address.repo}@{self.commit[:12]}"


def open_hub(model: str, address: HubAddress, *, stream: bool, weights: bool, tell: Progress) -> Source:
    """Download what a conversion needs of a repository.

    Args:
        model: what the user gave.
        address: the same, taken apart.
        stream: leave the weights where they are.
        weights: have weights at all.
        tell: told of downloads.

    Raises:
        CheckpointError: one line that says what is wrong and what to do.
    """
    if "HF_HUB_VERBOSITY" not in os.environ:
        # What the client tries again is not worth a line; what fails is ours to tell.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    repository = find(model, address)
    small = small_files(repository.files)
    if (index := index_of(repository.files)) and weights:
        small.append(index)
    folder = download(repository, small, tell) if small else None
    chosen = choose_weights(repository, folder) if weights else []
    elsewhere: dict[str, SourceFile] = {}
    leave = []
    if chosen and stream:
        if not repository.online:
            raise CheckpointError(f"{model}: the Hub cannot be reached, which --stream reads from; check the network")
        chunks = ReadAhead()
        leave.append(chunks.close)
        for name in chosen:
            listed = repository.files[name]
            ranges = HubRanges(address.repo, repository.commit, name, listed.size, listed.version)
            elsewhere[Path(name).name] = RemoteFile(ranges, chunks)
    elif chosen:
        folder = download(repository, chosen, tell)
    if folder is None and not chosen:
        raise CheckpointError(f"{model}: has no file that a conversion could use")
    folder = folder or Path(address.repo)
    origin, path, name = f"hub:{address.repo}@{repository.commit}", folder, address.repo.rpartition("/")[2]
    if chosen and chosen[0].lower().endswith(".gguf"):
        origin, path, name = f"{origin}/{chosen[0]}", folder / chosen[0], stem(Path(chosen[0]).name)
    return Source(model, path, elsewhere, origin, name, tuple(leave))


def find(model: str, address: HubAddress) -> Repository:
    """Ask the Hub for the commit and its files, or the cache where the Hub cannot be asked.

    Raises:
        CheckpointError: no such model or revision, no access, or neither network nor a copy in the cache.
    """
    repo, revision = address.repo, address.revision
    try:
        info = asked(lambda: HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT))
    except failures() as error:
        if is_unreachable(error) and (cached := find_cached(model, address)):
            return cached
        # A path that was mistyped looks like a repository, too.
        bare = is_unreachable(error) and "://" not in model
        raise hub_refusal(error, f"{model} (no such directory here)" if bare else model, repo, revision) from error
    files = {
        file.rfilename: Listed(file.size, file.lfs.sha256 if file.lfs else file.blob_id or "")
        for file in info.siblings or ()
        if file.size is not None and safe(file.rfilename)
    }
    if info.sha is None:
        raise CheckpointError(f"{model}: {constants.ENDPOINT} names no commit for it; check HF_ENDPOINT")
    return Repository(model, address, info.sha, files, online=True)


def find_cached(model: str, address: HubAddress) -> Repository | None:
    """What the cache holds of a repository; None if nothing."""
    try:
        folder = Path(
            snapshot_download(address.repo, revision=address.revision, local_files_only=True, allow_patterns=[])
        )
    except (OSError, errors.EntryNotFoundError, errors.HFValidationError):
        return None
    files = {
        path.relative_to(folder).as_posix(): Listed(path.stat().st_size, "")
        for path in folder.rglob("*")
        if path.is_file()
    }
    return Repository(model, address, folder.name, files, online=False)


def safe(name: str) -> bool:
    """Whether a file's name stays below the directory it is put in, and in a message's line."""
    return name.isprintable() and not name.startswith("/") and ".." not in name.split("/") and "\\" not in name


def choose_weights(repository: Repository, folder: Path | None) -> list[str]:
    """The names of the files that hold the weights, all of them there.

    Raises:
        CheckpointError: there are none, or the choice is the user's.
    """
    names, address = repository.files, repository.address

    def listed(index: str) -> Collection[str]:
        assert folder is not None
        return shards_of(folder / index)

    if address.file is None and address.tag is None:
        try:
            return weight_files(names, listed, address.repo)
        except CheckpointError:
            if repository.online:
                raise
            raise cached_in_part(repository) from None
    if address.file is None:
        return gguf_files(names, address.tag, address.repo)
    if address.file not in names:
        if not repository.online:
            raise cached_in_part(repository)
        others = sorted(name for name in names if name.lower().endswith(".gguf"))
        raise CheckpointError(
            f"{repository.model}: has no such file; it holds {', '.join(others[:4]) or 'no GGUF file'}"
        )
    return list(parts_of(address.file, names))


def shards_of(index: Path) -> set[str]:
    """The files that an index names.

    Raises:
        CheckpointError: it is malformed; names in it that leave the directory count as such.
    """
    try:
        placed = json.loads(index.read_bytes())["weight_map"]
        shards = set(placed.values())
        if all(isinstance(name, str) and "/" not in name and safe(name) for name in shards) and shards:
            return shards
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise CheckpointError(
        f"{index}: expected a weight_map of tensor: file name; ask the model's authors for a whole one"
    )


def cached_in_part(repository: Repository) -> CheckpointError:
    return CheckpointError(
        f"{repository.model}: the Hub cannot be reached and the cache ({constants.HF_HUB_CACHE}) holds only a part "
        "of it; unset HF_HUB_OFFLINE or check the network"
    )


def download(repository: Repository, names: Collection[str], tell: Progress) -> Path:
    """Have files in the cache; those that are there already are not asked for.

    Returns:
        The directory of the commit in the cache.

    Raises:
        CheckpointError: a file cannot be had, or the disk has no room for all of them.
    """
    repo, commit = repository.address.repo, repository.commit
    missing = [name for name in names if not isinstance(try_to_load_from_cache(repo, name, revision=commit), str)]
    if missing and not repository.online:
        raise cached_in_part(repository)
    check_room(repository, missing)
    counter = Counter(tell, sum(repository.files[name].size for name in missing))

    def fetch(name: str) -> str:
        # The client goes on where a connection broke; how often it tries to depends on its version.
        return asked(lambda: hf_hub_download(repo, name, revision=commit, tqdm_class=counter.bar(name)), lost=True)

    disable_progress_bars()
    try:
        with ThreadPoolExecutor(DOWNLOADS, "download") as pool:
            paths = [pool.submit(fetch, name) for name in names]
            try:
                folders = {name: Path(path.result()) for name, path in zip(names, paths, strict=True)}
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        remember(repository, names)
    except failures() as error:
        raise hub_refusal(error, repository.model, repo, commit) from error
    name, path = next(iter(folders.items()))
    return path.parents[name.count("/")]


def remember(repository: Repository, names: Collection[str]) -> None:
    """Have the cache know which commit the branch or tag stands for, so that it is found without the network."""
    revision = repository.address.revision or constants.DEFAULT_REVISION
    if repository.online and revision != repository.commit:
        smallest = min(names, key=lambda name: repository.files[name].size)
        hf_hub_download(repository.address.repo, smallest, revision=revision)


def check_room(repository: Repository, names: Collection[str]) -> None:
    """Refuse a download that the disk has no room for, before it begins."""
    cache = Path(constants.HF_HUB_CACHE)
    existing = next((path for path in (cache, *cache.parents) if path.is_dir()), cache)
    wanted, free = sum(repository.files[name].size for name in names), shutil.disk_usage(existing).free
    if wanted > free:
        raise CheckpointError(
            f"{repository.model}: {wanted / 1e9:.1f} GB to download, {free / 1e9:.1f} GB free on the disk of {cache}; "
            "free some space, set HF_HOME to another disk, or pass --stream to store nothing"
        )
