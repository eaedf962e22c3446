"""Outputs with a URL: refused early, uploaded when finished, kept when that fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hub_server import HubServer
from s3_server import Bucket

from converter.destinations import destination
from converter.errors import ConversionError, OutputError, UsageError


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def refused(output: str, kind: type[ConversionError] = OutputError) -> str:
    with pytest.raises(kind) as caught:
        destination(output)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_goes_to_its_address(bucket: Bucket, temporary: Path) -> None:
    content = np.random.default_rng(0).bytes(6_000_000)
    place = destination(f"s3://{bucket.name}/models/sample-q4_0.gguf")
    assert place.local.name == "sample-q4_0.gguf"
    assert not bucket.names()
    place.local.write_bytes(content)
    told: list[tuple[str, int, int]] = []
    url = place.deliver(progress=lambda *step: told.append(step))
    assert url == f"s3://{bucket.name}/models/sample-q4_0.gguf"
    assert bucket.content("models/sample-q4_0.gguf") == content
    assert told[-1] == ("sample-q4_0.gguf", len(content), len(content))
    assert not list(temporary.iterdir())


def test_an_interrupted_conversion_finds_its_place_again(bucket: Bucket) -> None:
    address = f"s3://{bucket.name}/model.gguf"
    first = destination(address).local
    first.with_name("model.gguf.part").write_bytes(b"half")
    assert destination(address).local == first
    assert destination(f"s3://{bucket.name}/other.gguf").local.parent != first.parent


def test_a_place_that_was_not_used(bucket: Bucket, temporary: Path) -> None:
    place = destination(f"s3://{bucket.name}/model.gguf")
    place.local.write_bytes(b"half")
    place.release()
    assert place.local.exists()
    place.local.unlink()
    place.release()
    assert not list(temporary.iterdir())


def test_a_directory(bucket: Bucket) -> None:
    place = destination(f"s3://{bucket.name}/out/sample-q8_0")
    (place.local / "folder").mkdir(parents=True)
    (place.local / "config.json").write_bytes(b"{}")
    (place.local / "folder" / "x.json").write_bytes(b"[]")
    assert place.deliver() == f"s3://{bucket.name}/out/sample-q8_0"
    assert bucket.names() == ["out/sample-q8_0/config.json", "out/sample-q8_0/folder/x.json"]
    assert refused(f"s3://{bucket.name}/out/sample-q8_0").startswith(
        f"s3://{bucket.name}/out/sample-q8_0: exists already"
    )


def test_several_files_beside_each_other(bucket: Bucket) -> None:
    place = destination(f"s3://{bucket.name}/out/m.gguf")
    parts = [place.local.with_name(f"m-0000{number}-of-00002.gguf") for number in (1, 2)]
    for part in parts:
        part.write_bytes(part.name.encode())
    assert place.deliver(parts) == f"s3://{bucket.name}/out/m-00001-of-00002.gguf"
    assert bucket.names() == ["out/m-00001-of-00002.gguf", "out/m-00002-of-00002.gguf"]


def test_a_folder_for_a_named_output(bucket: Bucket) -> None:
    place = destination(f"s3://{bucket.name}/out/")
    assert place.local.is_dir()
    written = place.local / "sample-q4_0.gguf"
    written.write_bytes(b"1")
    assert place.deliver([written]) == f"s3://{bucket.name}/out/sample-q4_0.gguf"
    again = destination(f"s3://{bucket.name}/out/")
    written.parent.mkdir(exist_ok=True)
    written.write_bytes(b"2")
    with pytest.raises(OutputError, match=r"exists already; pass --overwrite .* the converted output is kept as"):
        again.deliver([written])
    assert written.read_bytes() == b"2"
    assert bucket.content("out/sample-q4_0.gguf") == b"1"


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_bucket_itself(bucket: Bucket, slash: str) -> None:
    place = destination(f"s3://{bucket.name}{slash}")
    assert place.local.is_dir()
    (place.local / "m.gguf").write_bytes(b"1")
    assert place.deliver([place.local / "m.gguf"]) == f"s3://{bucket.name}/m.gguf"
    assert bucket.names() == ["m.gguf"]


def test_what_is_there_is_replaced_on_request_only(bucket: Bucket) -> None:
    bucket.put("out", {"m.gguf": b"old"})
    address = f"s3://{bucket.name}/out/m.gguf"
    assert refused(address) == f"{address}: exists already; pass --overwrite to replace it or choose another --output"
    place = destination(address, overwrite=True)
    place.local.write_bytes(b"new")
    place.deliver()
    assert bucket.content("out/m.gguf") == b"new"


def test_a_bucket_that_is_not_there(bucket: Bucket, temporary: Path) -> None:
    address = "s3://no-such-bucket-of-ours/m.gguf"
    assert refused(address) == f"{address}: no such bucket, file or directory; check the address"
    assert not list(temporary.iterdir())


def test_a_bucket_that_may_not_be_written(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    def deny(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")  # what s3fs makes of the status 403

    monkeypatch.setattr(s3fs.S3FileSystem, "pipe_file", deny)
    address = f"s3://{bucket.name}/m.gguf"
    assert refused(address) == (
        f"{address}: access is denied (Access Denied); check the credentials and what they permit"
    )


def test_a_failed_upload_keeps_the_file(bucket: Bucket) -> None:
    place = destination(f"s3://{bucket.name}/m.gguf")
    place.local.write_bytes(b"work of hours")
    bucket.remove()
    with pytest.raises(OutputError) as caught:
        place.deliver()
    assert str(caught.value) == (
        f"s3://{bucket.name}/m.gguf: no such bucket, file or directory; check the address; the converted output is "
        f"kept as {place.local}"
    )
    assert place.local.read_bytes() == b"work of hours"


def test_somebody_else_s_directory(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 12345)
    assert refused(f"s3://{bucket.name}/m.gguf").endswith("belongs to somebody else; set TMPDIR to a place of your own")


def test_local_outputs_stay(tmp_path: Path) -> None:
    for output in (tmp_path / "m.gguf", f"file://{tmp_path}/m.gguf"):
        place = destination(output)
        assert place.local == tmp_path / "m.gguf"
        assert place.url is None
        place.local.write_bytes(b"x")
        assert place.deliver() is None
        assert place.local.exists()


def test_a_file_in_a_repository_of_the_hub(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("lab/models", {"README.md": b"#"})
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    place = destination("hf://lab/models/sub/m.gguf")
    place.local.write_bytes(b"GGUF of the Hub")
    assert place.deliver() == "hf://lab/models/sub/m.gguf"
    assert hub.repositories["lab/models"].files == {"README.md": b"#", "sub/m.gguf": b"GGUF of the Hub"}
    assert "exists already" in refused("hf://lab/models/sub/m.gguf")
    assert "expected hf://organization/name/file.gguf" in refused("hf://lab/models", UsageError)
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert "the token of ada may only read" in refused("hf://lab/models/other.gguf")
