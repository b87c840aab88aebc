"""`ganctl dashboard --public`, as a process: with a certificate of its own, and behind a proxy that adds TLS."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from orchestrator.store.ids import new_id
from orchestrator.store.objects import open_objects
from orchestrator.store.writer import RunWriter

PATIENCE = 60.0
PROXY = "https://gans.example"


@pytest.fixture
def store(tmp_path: Path) -> str:
    folder = str(tmp_path / "store")
    RunWriter.create(open_objects(folder), new_id(), {"name": "kept", "family": "vanilla"}).seal(
        "completed", {}
    )
    return folder


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key, as PEM files."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ganctl test")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    return paths


@contextmanager
def dashboard(store: str, folder: Path, *words: str) -> Iterator[tuple[int, str, list[str]]]:
    """`ganctl dashboard --public` with `words` as a process: its port, its token, and, once it has ended, its words."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token, log = folder / "token", folder / "log.txt"
    command = [sys.executable, "-m", "orchestrator.cli", "dashboard", "--public", *words]
    command += ["--port", str(port), "--token-file", str(token), "--store", store]
    environ = {k: v for k, v in os.environ.items() if k not in ("PREFECT_API_URL", "RAY_API_SERVER_ADDRESS")}
    said: list[str] = []
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environ)
        try:
            listens(port, process, log)
            yield port, token.read_text(), said
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
            said += log.read_text().splitlines()
    assert process.returncode in (0, 130), said


def listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


def test_with_a_certificate_it_speaks_tls_alone_and_cookies_are_for_tls(store: str, tmp_path: Path) -> None:
    public, key = certificate(tmp_path)
    words = ("--host", "0.0.0.0", "--certificate", str(public), "--key", str(key))
    with dashboard(store, tmp_path, *words) as (port, token, said):
        url, trusted = f"https://127.0.0.1:{port}", ssl.create_default_context(cafile=str(public))
        with httpx.Client(base_url=url, verify=trusted, trust_env=False) as client:
            entered = client.get("/", params={"token": token})
            assert entered.status_code == 303
            assert entered.headers["strict-transport-security"].startswith("max-age=")
            cookie = entered.headers["set-cookie"].lower()
            assert all(word in cookie for word in ("secure", "httponly", "samesite=strict"))
            assert client.get("/api/runs").json()["columns"]["name"] == ["kept"]
            assert client.get("/api/runs", headers={"Host": "evil.example"}).status_code == 421
            csrf = client.get("/runs").text.partition('name="csrf" content="')[2].partition('"')[0]
            answers = {}
            for origin in (url, f"http://127.0.0.1:{port}", "https://evil.example"):
                headers = {"Origin": origin, "X-CSRF-Token": csrf, "Idempotency-Key": "key-of-a-test"}
                answers[origin] = client.post("/api/models/none/rollback", json={"after": 1}, headers=headers)
            assert [answer.status_code for answer in answers.values()] == [409, 403, 403]
        with pytest.raises(httpx.ConnectError):  # who does not trust the certificate is not served
            httpx.get(url, trust_env=False)
        with pytest.raises(httpx.TransportError):  # nothing is said in the clear
            httpx.get(f"http://127.0.0.1:{port}/login", trust_env=False)
    assert any(f"https://127.0.0.1:{port}/" in line for line in said)
    assert not any(token in line for line in said)


def test_behind_a_proxy_it_goes_by_the_proxys_name(store: str, tmp_path: Path) -> None:
    with dashboard(store, tmp_path, "--proxy", PROXY) as (port, token, said):
        passed_on = {"Host": "gans.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=passed_on, trust_env=False) as client:
            entered = client.get("/runs", params={"token": token})
            assert (entered.status_code, entered.headers["location"]) == (303, "/runs")
            assert "secure" in entered.headers["set-cookie"].lower()
            assert "strict-transport-security" in entered.headers
            cookie = {
                "Cookie": entered.headers["set-cookie"].partition(";")[0]
            }  # httpx keeps it for TLS, as it should
            csrf = (
                client.get("/runs", headers=cookie)
                .text.partition('name="csrf" content="')[2]
                .partition('"')[0]
            )
            codes = []
            for origin in (PROXY, "https://evil.example", f"http://127.0.0.1:{port}"):
                headers = {
                    **cookie,
                    "Origin": origin,
                    "X-CSRF-Token": csrf,
                    "Idempotency-Key": "key-of-a-test",
                }
                codes.append(
                    client.post("/api/models/none/rollback", json={"after": 1}, headers=headers).status_code
                )
            assert codes == [409, 403, 403]
            assert client.get("/runs", headers=cookie | {"Host": "other.example"}).status_code == 421
            told = client.get("/api/audit", headers=cookie).json()["actions"]
            assert [action["who"]["address"] for action in told] == ["203.0.113.7"]
    assert any(PROXY in line for line in said)


@pytest.mark.parametrize("words", [("--certificate", "CERT"), ("--key", "KEY"), ()])
def test_without_tls_nothing_is_served(store: str, tmp_path: Path, words: tuple[str, ...]) -> None:
    public, key = certificate(tmp_path)
    given = [{"CERT": str(public), "KEY": str(key)}.get(word, word) for word in words]
    command = [sys.executable, "-m", "orchestrator.cli", "dashboard", "--public", *given, "--store", store]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 2
    assert "--certificate and --key" in ended.stderr
