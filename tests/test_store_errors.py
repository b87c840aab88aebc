"""What a person reads when the store cannot be used: one line with the url, what went wrong and the remedy."""

import errno
import os
import pickle
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orchestrator.errors import ConditionalWritesMissing, StoreError
from orchestrator.store.filesystem import file_system
from orchestrator.store.objects import open_objects
from orchestrator.store.s3 import S3Objects
from tests.support.ceph import S3Server

Monkeypatch = pytest.MonkeyPatch
Request = pytest.FixtureRequest


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gs://bucket", "unknown kind 'gs'"),
        ("s3://key:secret@bucket/x", "AWS_ACCESS_KEY_ID"),
        ("s3://", "not an S3 url"),
        ("file://relative/x", "not a folder"),
        ("", "not a folder"),
    ],
)
def test_a_wrong_url_is_refused_with_the_right_form(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        open_objects(url)
    assert "secret" not in str(caught.value)


def test_urls_are_normalised(tmp_path: Path, monkeypatch: Monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        open_objects("runs").url == open_objects(f"file://{tmp_path}/runs/").url == f"file://{tmp_path}/runs"
    )
    assert open_objects("s3://bucket/a/b/").url == "s3://bucket/a/b"
    assert open_objects("s3://bucket/").url == "s3://bucket"


def assert_one_line(error: BaseException, *words: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert all(word in text for word in words), text


@pytest.mark.parametrize("server", ["moto", "ceph"])
def test_a_missing_bucket_is_named(server: str, request: Request) -> None:
    request.getfixturevalue(f"{server}_store")
    with pytest.raises(StoreError) as caught:
        open_objects("s3://no-such-bucket/x").put("k", b"x")
    assert_one_line(caught.value, "s3://no-such-bucket/x", "'no-such-bucket' does not exist", "create it")


@pytest.mark.parametrize("variable", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_wrong_credentials_are_refused(ceph_store: str, variable: str, monkeypatch: Monkeypatch) -> None:
    monkeypatch.setenv(variable, "wrong-value")
    with pytest.raises(StoreError) as caught:
        open_objects(ceph_store).get("k")
    assert_one_line(caught.value, ceph_store, "refuses these credentials", "AWS_SECRET_ACCESS_KEY")
    assert "wrong-value" not in str(caught.value)


def test_missing_credentials_are_asked_for(moto_store: str, monkeypatch: Monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError) as caught:
        open_objects(moto_store).get("k")
    assert_one_line(caught.value, moto_store, "no credentials", "set AWS_ACCESS_KEY_ID")


def test_an_unreachable_endpoint_is_named_within_seconds(moto_store: str, monkeypatch: Monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    began = time.monotonic()
    checks = open_objects(moto_store).check()
    assert time.monotonic() - began < 10
    assert [(check.name, check.ok) for check in checks] == [("reachable", False)]
    assert "no answer from http://127.0.0.1:1" in checks[0].detail
    assert "AWS_ENDPOINT_URL" in checks[0].remedy


def test_a_store_that_ignores_the_condition_is_found_out(moto_store: str, monkeypatch: Monkeypatch) -> None:
    monkeypatch.setattr(S3Objects, "create", S3Objects.put)
    objects = open_objects(moto_store)
    with pytest.raises(ConditionalWritesMissing, match="If-None-Match"):
        objects.require_conditional_writes()
    assert [check.name for check in objects.check() if not check.ok] == ["conditional writes"]


def test_a_lost_acknowledgement_is_no_lost_race(moto_store: str, monkeypatch: Monkeypatch) -> None:
    objects = open_objects(moto_store)
    assert isinstance(objects, S3Objects)
    system = objects.system()
    call = system.call_s3

    def twice(operation: str, **request: object) -> object:
        if operation == "put_object":  # the first answer is lost and the client tries again
            call(operation, **request)
        return call(operation, **request)

    monkeypatch.setattr(system, "call_s3", twice)
    objects.create("k", b"x")
    assert objects.get("k") == b"x"


def test_a_put_waits_for_no_100_continue_also_once_unpickled(monkeypatch: Monkeypatch) -> None:
    seen: list[dict[str, str]] = []

    class Record(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # it answers `Expect` where it is sent

        def do_PUT(self) -> None:
            seen.append(dict(self.headers))
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Record)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in (
        S3Server(f"http://127.0.0.1:{server.server_port}", "a", "b", "r").environment().items()
    ):
        monkeypatch.setenv(name, value)
    system = file_system()
    for client in (system, pickle.loads(pickle.dumps(system))):
        client.connect()
        client.call_s3("put_object", Bucket="bucket", Key="k", Body=b"x")
    server.shutdown()
    server.server_close()
    assert ["Expect" in headers for headers in seen] == [False, False]
    assert all("aws-chunked" not in headers.get("Content-Encoding", "") for headers in seen)


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: Monkeypatch) -> Iterator[str]:
    """A folder on a disk of 64 KiB; where this user may not mount one, the answer such a disk gives."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True).returncode == 0
    if not mounted:

        def full(fd: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
    yield str(folder)
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_and_nothing_half_written_stays(full_disk: str) -> None:
    objects = open_objects(full_disk)
    for write in (objects.create, objects.put):
        with pytest.raises(StoreError) as caught:
            write("a/big", b"x" * 200_000)
        assert_one_line(caught.value, f"file://{full_disk}", "the disk is full", "free space")
    assert [path for path in Path(full_disk).rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.EROFS, "read-only"), (errno.EACCES, "permission denied"), (errno.EPERM, "hard links")],
)
def test_an_unwritable_folder_is_named(
    file_store: str, code: int, words: str, monkeypatch: Monkeypatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreError) as caught:
        open_objects(file_store).create("a", b"x")
    assert_one_line(caught.value, file_store, words)


def test_a_store_below_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="a part of the path is a file"):
        open_objects(str(tmp_path / "file" / "store")).put("k", b"x")
