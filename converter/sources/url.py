"""Models in object stores and other places with a URL, through fsspec: small files are copied, weights are streamed."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from converter.errors import CheckpointError
from converter.sources.counter import Counter
from converter.sources.read_ahead import ReadAhead
from converter.sources.remote_file import RemoteFile, UnreachableSource
from converter.sources.selection import all_parts, index_of, small_files, stem, weight_files
from converter.sources.source import Progress, Source
from converter.sources.source_file import SourceFile
from converter.sources.stores import filesystem, store_refusal

#: Files of a repository may lie this deep: ``1_Pooling/config.json`` is at 2.
DEPTH = 2
ATTEMPTS = 4
#: Seconds before the second attempt; doubled before each further one. Drivers are patient on their own besides.
FIRST_PAUSE = 1.0
#: What a store may call the version of a file, the best word first.
VERSIONS = ("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "mtime", "updated")
#: Small files that make out what is converted; read where they lie, so that they are known by the same name next time.
IDENTIFYING = ("config.json",)
#: The weights of a LoRA adapter, as PEFT names them; small, and read as a whole.
ADAPTER = re.compile(r"adapter_model\.(safetensors|bin)")


class UrlRanges:
    """One file of a store.

    Args:
        store: the fsspec filesystem.
        path: the file's path in it.
        url: its address.
        facts: what the store says of it.
    """

    def __init__(self, store: Any, path: str, url: str, facts: dict[str, Any]) -> None:
        self.url = url
        self.size = int(facts["size"])
        self.version = version_of(facts)
        self._store = store
        self._path = path

    def read(self, offset: int, count: int) -> bytes:
        """The bytes ``offset`` to ``offset + count``.

        Raises:
            CheckpointError: the file changed, is gone, or may not be read.
            UnreachableSource: it cannot be had after several attempts.
        """
        for attempt in range(ATTEMPTS):
            try:
                found: bytes = self._store.cat_file(self._path, start=offset, end=offset + count)
                # Drivers have no conditional reads; a file that is the same after a read was so during it.
                facts = self._store.info(self._path)
                break
            except (FileNotFoundError, PermissionError) as error:
                raise store_refusal(error, self.url, CheckpointError) from error
            except Exception as error:
                if attempt + 1 == ATTEMPTS:
                    raise UnreachableSource(store_refusal(error, self.url, CheckpointError)) from error
                time.sleep(FIRST_PAUSE * 2.0**attempt)
        if len(found) != count or version_of(facts) != self.version:
            raise CheckpointError(f"{self.url}: changed since the conversion began; run the same command again")
        return found


def version_of(facts: dict[str, Any]) -> str:
    """The store's word for a file's present contents; its size where there is none."""
    return next((str(facts[key]) for key in VERSIONS if facts.get(key)), str(facts.get("size")))


def open_url(url: str, *, weights: bool, tell: Progress) -> Source:
    """Open a checkpoint's directory, or a GGUF file, at a URL.

    Args:
        url: such as ``s3://bucket/directory``.
        weights: have weights at all.
        tell: told of the small files' downloads.

    Raises:
        CheckpointError: it cannot be found or read, or its driver is not installed.
    """
    url = url.rstrip("/")
    store, path = filesystem(url, CheckpointError)
    try:
        facts = store.info(path)
        single = facts.get("type") == "file"
        folder, folder_url = (path.rpartition("/")[0], url.rpartition("/")[0]) if single else (path, url)
        # A single file may lie where directories have no listings, as on a web server.
        files = (
            {name: store.info(f"{folder}/{name}") for name in all_parts(url.rpartition("/")[2])}
            if single
            else listed(store, folder)
        )
    except Exception as error:  # each driver has errors of its own
        raise store_refusal(error, url, CheckpointError) from error
    last = url.rpartition("/")[2]
    if single and not last.lower().endswith(".gguf"):
        raise CheckpointError(f"{url}: is a file; expected a .gguf file or the directory of a checkpoint")
    name = stem(last) if single else last
    # The directory bears the model's name: the name in the model's metadata is derived from it.
    temporary = Path(tempfile.mkdtemp(prefix="converter-"))
    here = temporary / name
    chunks = ReadAhead()

    def leave() -> None:
        chunks.close()
        shutil.rmtree(temporary, ignore_errors=True)

    def remote(file: str) -> RemoteFile:
        return RemoteFile(UrlRanges(store, f"{folder}/{file}", f"{folder_url}/{file}", files[file]), chunks)

    try:
        here.mkdir()
        small = small_files(files)
        if (index := index_of(files)) and weights and not single:
            small.append(index)
        copy(store, folder, folder_url, small, files, here, tell)
        chosen = chosen_weights(files, here, url, single=single) if weights else []
        if chosen and ADAPTER.fullmatch(chosen[0]):
            copy(store, folder, folder_url, chosen, files, here, tell)
            chosen = []
        elsewhere: dict[str, SourceFile] = {Path(file).name: remote(file) for file in chosen}
        if chosen and not single:
            elsewhere |= {file: remote(file) for file in IDENTIFYING if file in files}
    except BaseException:
        leave()
        raise
    is_gguf = bool(chosen) and chosen[0].lower().endswith(".gguf")
    return Source(url, here / chosen[0] if is_gguf else here, elsewhere, url, name, (leave,))


def listed(store: Any, folder: str) -> dict[str, dict[str, Any]]:
    """All files of a directory and those right below it, by path in it, with what the store says of them."""
    found = store.find(folder, maxdepth=DEPTH, detail=True)
    prefix = len(folder.strip("/")) + 1
    return {
        name.strip("/")[prefix:]: facts
        for name, facts in found.items()
        if facts.get("type") == "file" and ".." not in name.split("/") and name.isprintable()
    }


def chosen_weights(files: Collection[str], here: Path, url: str, *, single: bool) -> list[str]:
    """The names of the files that hold the weights; raises as :func:`weight_files`."""
    from converter.sources.hub import shards_of

    return list(files) if single else weight_files(files, lambda index: shards_of(here / index), url)


def copy(
    store: Any,
    folder: str,
    folder_url: str,
    names: list[str],
    files: dict[str, dict[str, Any]],
    to: Path,
    tell: Progress,
) -> None:
    """Bring small files here.

    Raises:
        CheckpointError: one cannot be read, or the disk is full.
    """
    counter = Counter(tell, sum(int(files[name]["size"]) for name in names))
    for name in names:
        target = to / name
        try:
            target.parent.mkdir(exist_ok=True)
            store.get_file(f"{folder}/{name}", str(target))
        except Exception as error:  # each driver has errors of its own
            raise store_refusal(error, f"{folder_url}/{name}", CheckpointError) from error
        counter.add(name, int(files[name]["size"]))
