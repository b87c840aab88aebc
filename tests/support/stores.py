"""Fixtures: a store url on each kind of server, with the environment that reaches it.

`store_url` runs a test over `file`, `moto` and `ceph`; `file_store`, `moto_store` and `ceph_store` give one of
them. Each test has a folder or bucket of its own; the servers are started once a session, when first needed.
"""

import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ceph import Ceph, S3Server, missing_programs


@pytest.fixture(scope="session")
def ceph_server() -> Iterator[S3Server]:
    """A Ceph RADOS Gateway. Skipped where it is not installed or GANCTL_TEST_CEPH=0, but in CI this fails."""
    missing = missing_programs()
    reason = ""
    if os.environ.get("GANCTL_TEST_CEPH") == "0":
        reason = "GANCTL_TEST_CEPH=0"
    elif missing:
        reason = (
            f"not installed: {', '.join(missing)} (apt-get install ceph-mon ceph-osd radosgw ceph-common)"
        )
    if reason and os.environ.get("CI"):
        pytest.fail(f"CI must test against a real S3 server: {reason}")
    if reason:
        pytest.skip(f"Ceph: {reason}")
    root = Path(tempfile.mkdtemp(prefix="ganctl-ceph-"))  # short: a Unix socket's path has at most 107 bytes
    ceph = Ceph(root)
    try:
        yield ceph.start()
    finally:
        ceph.stop()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    """moto over HTTP, one request at a time: it looks and then writes, so threads would make two winners."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=False, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield S3Server(f"http://127.0.0.1:{server.server_port}", "moto", "moto", "us-east-1")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def file_store(tmp_path: Path) -> str:
    """The url of a folder that is not there yet."""
    return f"file://{tmp_path}/store"


@pytest.fixture
def moto_store(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The url of a prefix in a fresh bucket on moto; the environment reaches it."""
    return fresh_bucket(moto_server, monkeypatch)


@pytest.fixture
def ceph_store(ceph_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The url of a prefix in a fresh bucket on Ceph; the environment reaches it, for child processes too."""
    return fresh_bucket(ceph_server, monkeypatch)


@pytest.fixture(params=["file", "moto", "ceph"])
def store_url(request: pytest.FixtureRequest) -> str:
    """A fresh, empty store on each kind of server."""
    return str(request.getfixturevalue(f"{request.param}_store"))


def fresh_bucket(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Point the environment at `server`, make a bucket there, and return a prefix in it."""
    from orchestrator.store.filesystem import file_system

    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    request = {"Bucket": bucket}
    file_system().call_s3("create_bucket", **request)
    return f"s3://{bucket}/ganctl"
