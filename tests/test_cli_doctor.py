"""What `ganctl doctor` finds, and what it says to do about it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.store.local import LocalObjects
from tests.support.rays import nothing_left, short_folder

ENVIRONMENT = {"GANCTL_STORE": None, "PREFECT_API_URL": None, "RAY_AUTH_TOKEN": None, "COLUMNS": "80"}


def findings(store: object, *words: str, code: int = 0, **environment: str) -> dict[str, Any]:
    """The findings by name; `ganctl doctor` must end with `code`."""
    runner = CliRunner(env=ENVIRONMENT | environment)
    result = runner.invoke(app, ["doctor", "--json", "--store", str(store), *words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    document = json.loads(result.stdout)
    assert document["ok"] is (code == 0)
    return {check["name"]: check for check in document["checks"]}


class Head(BaseHTTPRequestHandler):
    """Answers like a Ray head or a Prefect server; a token is asked for under /locked."""

    def do_GET(self) -> None:
        locked = self.path.startswith("/locked") and self.headers["Authorization"] != "Bearer secret"
        body = json.dumps({"ray_version": metadata.version("ray") if "/old" not in self.path else "1.0"})
        self.send_response(401 if locked else 200)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def head() -> Iterator[str]:
    """The address of a small HTTP server."""
    server = HTTPServer(("127.0.0.1", 0), Head)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def closed() -> str:
    """An address where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_a_healthy_machine_has_nothing_that_fails(tmp_path: Path) -> None:
    found = findings(tmp_path / "store")
    assert found["store conditional writes"]["level"] == "ok"
    assert found["packages"]["level"] == "ok"
    assert int(found["CPUs"]["detail"]) >= 1
    assert {"bf16", "memory", "GPUs", "prefect server"} <= found.keys()


def test_a_store_that_ignores_conditional_writes_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalObjects, "create", LocalObjects.put)
    found = findings(tmp_path / "store", code=1)["store conditional writes"]
    assert found["level"] == "fail"
    assert "honours it" in found["remedy"]


def test_a_store_that_cannot_be_written_fails_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = findings(tmp_path / "file", code=1)
    assert [f["remedy"] for f in found.values() if f["level"] == "fail"] == [
        "choose a --store that is a folder"
    ]


def test_a_store_url_that_is_none_fails(tmp_path: Path) -> None:
    found = findings("gs://bucket", code=1)["store"]
    assert "unknown kind" in found["detail"]
    assert "s3://bucket/prefix" in found["remedy"]


def test_a_version_beyond_a_cap_fails_and_a_missing_extra_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"fastapi": "0.165.0", "sqlalchemy": "2.1.0"}
    real = metadata.version

    def version(name: str) -> str:
        if name == "onnx":
            raise metadata.PackageNotFoundError(name)
        return versions.get(name) or real(name)

    monkeypatch.setattr("orchestrator.cli.checkup.metadata.version", version)
    found = findings(tmp_path / "store", code=1)
    assert found["fastapi"]["level"] == found["sqlalchemy"]["level"] == "fail"
    assert "fastapi<0.151" in found["fastapi"]["remedy"]
    assert found["extra onnx"]["level"] == "warn"
    assert "ganctl[onnx]" in found["extra onnx"]["remedy"]


def test_people_see_a_line_a_check_and_how_to_mend_it(tmp_path: Path) -> None:
    result = CliRunner(env=ENVIRONMENT).invoke(app, ["doctor", "--store", "gs://bucket"])
    assert result.exit_code == 1
    assert any(line.startswith("fail  store") for line in result.stdout.splitlines())
    assert "mended" in result.stderr


def test_a_prefect_server_is_asked_whether_it_lives(tmp_path: Path, head: str, closed: str) -> None:
    found = findings(tmp_path / "store", PREFECT_API_URL=f"{head}/api")
    assert found["prefect server"] == {
        "name": "prefect server",
        "level": "ok",
        "detail": f"{head}/api",
        "remedy": "",
    }
    found = findings(tmp_path / "store", code=1, PREFECT_API_URL=f"{closed}/api")
    assert "unset PREFECT_API_URL" in found["prefect server"]["remedy"]


def test_a_cluster_must_answer_with_our_version_of_ray(tmp_path: Path, head: str, closed: str) -> None:
    store = tmp_path / "store"
    found = findings(store, "--on", head)
    assert found[f"ray at {head}"]["level"] == "ok"
    assert found["store seen from there"]["level"] == "warn"
    assert "same version" in findings(store, "--on", f"{head}/old", code=1)[f"ray at {head}/old"]["remedy"]
    assert findings(store, "--on", closed, code=1)[f"ray at {closed}"]["level"] == "fail"
    assert findings(store, "--on", "host", code=1)["ray at host"]["remedy"].startswith("write --on http://")


def test_a_cluster_that_wants_a_token_says_so_and_gets_ours(tmp_path: Path, head: str) -> None:
    on = ("--on", f"{head}/locked")
    assert "RAY_AUTH_TOKEN" in findings(tmp_path / "store", *on, code=1)[f"ray at {head}/locked"]["remedy"]
    found = findings(tmp_path / "store", *on, RAY_AUTH_TOKEN="secret")
    assert found[f"ray at {head}/locked"]["level"] == "ok"


@pytest.mark.slow
def test_deep_starts_and_ends_a_ray_of_our_own(tmp_path: Path) -> None:
    """In a process of its own: a process whose Ray had a token cannot start one without."""
    words = ["doctor", "--json", "--deep", "--store", str(tmp_path / "store")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PREFECT_"))}
    with short_folder() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator.cli", *words],
            env=clean | {"GANCTL_RAY_TMP": folder},
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stdout
        nothing_left(folder)
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert "CPUs" in found["ray starts here"]["detail"]
