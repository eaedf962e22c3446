"""Weights read by ranges from the Hub: the same bytes, few requests, and every way in which a network fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hub_server import HubServer

from converter.checkpoints import open_checkpoint
from converter.errors import CheckpointError, UsageError
from converter.sources import open_source, read_ahead
from converter.sources.remote_file import RemoteFile, UnreachableSource
from converter.sources.source_file import SourceFile

SAMPLE = Path(__file__).parent.parent / "fixtures" / "sample"
LARGE = np.random.default_rng(1).bytes(40_000_000)


@pytest.fixture
def large(hub: HubServer) -> HubServer:
    hub.add("lab/large", {"config.json": b"{}", "model.safetensors": LARGE})
    return hub


def streamed(model: str = "lab/large") -> SourceFile:
    return open_source(model, stream=True).elsewhere["model.safetensors"]


def test_a_streamed_checkpoint_is_the_local_one(hub: HubServer, tmp_path: Path) -> None:
    repository = hub.add("lab/sample", SAMPLE)
    with open_source("lab/sample", stream=True) as source:
        assert not (source.path / "model.safetensors").exists()
        with open_checkpoint(source.path, source.elsewhere) as found, open_checkpoint(SAMPLE) as expected:
            assert list(found.tensors) == list(expected.tensors)
            for name, tensor in expected.tensors.items():
                assert np.array_equal(found.tensors[name].read_rows(0, tensor.rows), tensor.read_rows(0, tensor.rows))
        url = f"hf://lab/sample@{repository.commit}/model.safetensors"
        assert str(found.files[1].path) == url
        assert found.files[1].size == 5775952
    stored = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if not path.is_symlink())
    assert stored < 300_000


def test_reading_in_order_asks_for_every_byte_once(large: HubServer) -> None:
    file = streamed()
    for offset in range(0, len(LARGE), 1_000_000):
        assert file.read_bytes(offset, 1_000_000) == LARGE[offset : offset + 1_000_000]
    asked = large.asked("storage", "GET")
    assert len(asked) == 1 + -(-(len(LARGE) - read_ahead.FIRST) // read_ahead.CHUNK)
    assert len({request.headers["range"] for request in asked}) == len(asked)
    assert all(request.headers["accept-encoding"] == "identity" for request in asked)


def test_many_threads_read_anywhere(large: HubServer) -> None:
    file = streamed()
    offsets = np.random.default_rng(2).integers(0, len(LARGE) - 300_000, 200)

    def same(offset: int) -> bool:
        return file.read_bytes(offset, 300_000) == LARGE[offset : offset + 300_000]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(same, map(int, offsets)))


def test_memory_is_bounded_over_all_files() -> None:
    """More readers than there is room for: what is kept and what is on its way stays below the limit."""
    arriving, most = Meter(), Meter()

    class Slow:
        def __init__(self, number: int) -> None:
            self.url, self.size, self.version = f"mem://{number}", len(LARGE), "1"

        def read(self, offset: int, count: int) -> bytes:
            with arriving:
                most.value = max(most.value, arriving.value)
                return LARGE[offset : offset + count]

    chunks = read_ahead.ReadAhead(limit=24 << 20)
    files = [RemoteFile(Slow(number), chunks) for number in range(6)]

    def read_through(file: RemoteFile) -> bool:
        for offset in range(0, len(LARGE), 500_000):
            assert file.read_bytes(offset, 500_000) == LARGE[offset : offset + 500_000]
            assert len(chunks._chunks) <= (24 << 20) // read_ahead.CHUNK + len(files)
        return True

    with ThreadPoolExecutor(len(files)) as pool:
        assert all(pool.map(read_through, files))
    assert most.value <= read_ahead.THREADS
    chunks.close()


def test_latency_is_hidden() -> None:
    """Chunks are asked for before they are needed: nobody is answered until several have asked."""
    together = threading.Barrier(read_ahead.AHEAD)

    class Distant:
        url, size, version = "mem://distant", read_ahead.FIRST + 2 * read_ahead.AHEAD * read_ahead.CHUNK, "1"

        def read(self, offset: int, count: int) -> bytes:
            if offset:
                together.wait(timeout=60)
            return bytes(count)

    chunks = read_ahead.ReadAhead()
    file = RemoteFile(Distant(), chunks)
    for offset in range(0, file.size, 1 << 20):
        file.read_bytes(offset, min(1 << 20, file.size - offset))
    chunks.close()


def test_the_token_stays_with_the_hub(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("lab/large", {"config.json": b"{}", "model.safetensors": LARGE}, private=True)
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert streamed().read_bytes(0, 10) == LARGE[:10]
    assert hub.asked("hub", "HEAD", "model.safetensors")[0].headers["authorization"] == "Bearer hf_reader"
    assert all("authorization" not in request.headers for request in hub.asked("storage", "GET"))


def test_a_dropped_connection_is_taken_up_where_it_broke(large: HubServer) -> None:
    large.faults.drop_after["model.safetensors"] = [100_000, 2_000_000, 50_000]
    assert streamed().read_bytes(0, len(LARGE)) == LARGE
    begins = [int(request.headers["range"][6:].partition("-")[0]) for request in large.asked("storage", "GET")]
    assert 100_000 in begins
    assert len(begins) == len(set(begins))


def test_a_connection_that_always_breaks_is_given_up(large: HubServer) -> None:
    file = streamed()
    large.faults.drop_after["model.safetensors"] = [0] * 1000
    with pytest.raises(UnreachableSource) as caught:
        file.read_bytes(0, 10)
    assert str(caught.value).startswith(f"{file.path}: http://127.0.0.1:")
    assert "cannot be reached" in str(caught.value)
    assert str(caught.value).endswith("; run the same command to go on")
    large.faults.drop_after.clear()
    assert file.read_bytes(0, 10) == LARGE[:10]


@pytest.mark.parametrize("fault", ["limited", "down", "expired"])
def test_what_passes_is_waited_for(large: HubServer, fault: str) -> None:
    file = streamed()
    assert file.read_bytes(0, 10) == LARGE[:10]
    setattr(large.faults, fault, 3)
    assert file.read_bytes(0, len(LARGE)) == LARGE


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("limited", "the Hub limits how much may be asked for (429)"),
        ("down", "the Hub answers with an error (503); try again later"),
        ("expired", "the address that the Hub gives for it is refused; try again later"),
    ],
)
def test_what_does_not_pass_is_told(large: HubServer, fault: str, told: str) -> None:
    file = streamed()
    setattr(large.faults, fault, 1000)
    assert told in refused(lambda: file.read_bytes(0, 10))


def test_a_server_without_ranges(large: HubServer) -> None:
    large.faults.no_ranges = True
    file = streamed()
    assert refused(lambda: file.read_bytes(0, 10)) == (
        f"{file.path}: the server sends the whole file where a range was asked for; remove --stream to download it"
    )


@pytest.mark.parametrize("contents", [LARGE[::-1], LARGE[:1000]])
def test_a_file_that_changed(large: HubServer, contents: bytes) -> None:
    file = streamed()
    large.repositories["lab/large"].files["model.safetensors"] = contents
    assert "is not what the Hub listed" in refused(lambda: file.read_bytes(0, 10))


def test_a_file_that_changed_behind_a_known_address(large: HubServer) -> None:
    file = streamed()
    file.read_bytes(0, 10)
    large.repositories["lab/large"].files["model.safetensors"] = LARGE[:1000]
    assert "is not what the Hub listed" in refused(lambda: file.read_bytes(20_000_000, 10))


def test_reading_beyond_the_end(large: HubServer) -> None:
    file = streamed()
    assert refused(lambda: file.read_bytes(len(LARGE) - 5, 10)) == (
        f"{file.path}: has 40000000 bytes, 10 at byte 39999995 expected"
    )


def test_a_streamed_gguf_file(hub: HubServer) -> None:
    hub.add("lab/sample-GGUF", {"sample.gguf": LARGE})
    with open_source("lab/sample-GGUF", stream=True) as source:
        assert source.path.name == "sample.gguf"
        assert not source.path.exists()
        assert source.elsewhere["sample.gguf"].read_bytes(39_000_000, 1_000_000) == LARGE[39_000_000:]


def test_streaming_what_is_here(hub: HubServer) -> None:
    with pytest.raises(UsageError, match="lies on this machine already; remove --stream"):
        open_source(SAMPLE, stream=True)


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(CheckpointError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Meter:
    """How many are inside at a time."""

    def __init__(self) -> None:
        self.value, self._lock = 0, threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.value += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.value -= 1
