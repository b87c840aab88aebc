"""Who the dashboard lets in and what it refuses: every request over a real socket."""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from orchestrator.cli import dashboard as cli
from orchestrator.dashboard import security
from orchestrator.dashboard.security import Buckets, Sessions
from orchestrator.dashboard.settings import Settings
from orchestrator.errors import ConfigError
from orchestrator.masking import masked
from orchestrator.store.ids import new_id
from orchestrator.store.objects import Objects, open_objects
from orchestrator.store.writer import RunWriter
from tests.support.browsing import TOKEN, Site, serving

HOSTILE = "</script><img src=x onerror=alert(1)>"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    made = open_objects(str(tmp_path_factory.mktemp("dashboard") / "store"))
    writer = RunWriter.create(made, new_id(), {"name": HOSTILE, "family": "vanilla", "seed": 3})
    writer.log(1, {"fid": 2.0})
    writer.sample(1, b"\x89PNG\r\n\x1a\n-not-really")
    writer.seal("failed", {"error": f"{HOSTILE} password=hunter2"})
    return made


@pytest.fixture(scope="module")
def site(objects: Objects) -> Iterator[Site]:
    with serving(objects) as served:
        yield served


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    """A browser that nobody has let in."""
    with httpx.Client(base_url=site.url, trust_env=False) as made:
        yield made


def enter(client: httpx.Client) -> str:
    """Log in; returns the CSRF token of a page."""
    assert client.get("/", params={"token": TOKEN}).status_code == 303
    page = client.get("/runs")
    assert page.status_code == 200
    return page.text.partition('name="csrf" content="')[2].partition('"')[0]


def raw(site: Site, request: bytes) -> bytes:
    """What the server answers to these very bytes."""
    port = site.settings.port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        return connection.recv(65536)


def test_without_the_token_nothing_of_the_store_is_told(client: httpx.Client, objects: Objects) -> None:
    (run_id,) = objects.folders("runs")
    for path in ("/api/runs", "/api/status", "/api/events", f"/api/runs/{run_id}", "/api/openapi.json"):
        answer = client.get(path)
        assert answer.status_code == 401
        assert set(answer.json()) == {"error"}
        assert run_id not in answer.text
    for path in ("/", "/runs", f"/runs/{run_id}", "/compare", "/nowhere"):
        page = client.get(path)
        assert page.status_code == 401
        assert "<form" in page.text
    assert client.get("/static/vendor/uplot/uPlot.min.css").status_code == 200


def test_the_token_is_asked_for_once_and_leaves_the_address(client: httpx.Client, site: Site) -> None:
    answer = client.get("/runs", params={"q": "fid<20", "token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs?q=fid%3C20")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"ganctl_{site.settings.port}=")
    assert TOKEN not in cookie
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    assert client.get("/api/runs").status_code == 200


def test_the_form_lets_in_and_leads_back_to_a_page_of_ours_alone(client: httpx.Client, site: Site) -> None:
    asked = client.get("/login", params={"next": '/runs?q="><b>'})
    assert 'value="/runs?q=&quot;&gt;&lt;b&gt;"' in asked.text
    for wanted, led in (
        ("/runs?q=1", "/runs?q=1"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("x", "/"),
    ):
        answer = client.post("/login", data={"token": TOKEN, "next": wanted}, headers={"Origin": site.url})
        assert (answer.status_code, answer.headers["location"]) == (303, led)
    elsewhere = client.post("/login", data={"token": TOKEN}, headers={"Origin": "http://evil.example"})
    assert elsewhere.status_code == 403


@pytest.mark.parametrize("token", ["wrong", "", TOKEN[:-1], TOKEN + "x", "ключ"])
def test_a_wrong_token_is_refused(site: Site, token: str) -> None:
    with (
        serving(open_objects(site.app.state.objects.url)) as fresh,
        httpx.Client(base_url=fresh.url) as client,
    ):
        assert client.get("/", params={"token": token}).status_code == 401
        assert client.post("/login", data={"token": token}).status_code == 401
        header = {"Authorization": b"Bearer " + (token or "-").encode()}
        assert client.get("/api/runs", headers=header).status_code == 401
        assert not client.cookies


def test_guessing_is_slowed_down(objects: Objects) -> None:
    with serving(objects) as fresh, httpx.Client(base_url=fresh.url) as client:
        codes = [client.get("/", params={"token": f"guess {i}"}).status_code for i in range(15)]
        assert codes == [401] * 10 + [429] * 5
        assert client.get("/api/runs", headers=BEARER).status_code == 200  # others go on


def test_cookies_of_another_port_expired_or_forged_ones_let_nobody_in(
    site: Site, client: httpx.Client
) -> None:
    enter(client)
    (name, value), *_ = client.cookies.items()
    told, _, signature = value.rpartition(".")
    later = f"{int(told.partition('.')[0]) + 1}.{told.partition('.')[2]}.{signature}"
    old = Sessions(TOKEN)._sign("session", "1000.abc")
    for cookie in (
        f"ganctl_1={value}",
        f"{name}={later}",
        f"{name}={Sessions('another token').open()}",
        f"{name}=1000.abc.{old}",
        f"{name}=",
        f"{name}=a.b.c",
    ):
        answer = httpx.get(f"{site.url}/api/runs", headers={"Cookie": cookie}, trust_env=False)
        assert answer.status_code == 401, cookie


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "user@127.0.0.1", "[", ""]
)
def test_a_forged_host_is_refused(client: httpx.Client, host: str) -> None:
    assert client.get("/api/runs", headers={**BEARER, "Host": host}).status_code in (400, 421)


def test_two_hosts_or_none_are_refused(site: Site) -> None:
    two = f"GET /api/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    assert b" 421 " in raw(site, two.encode()) or b" 400 " in raw(site, two.encode())
    none = f"GET /api/runs HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    assert b" 421 " in raw(site, none.encode())


def test_a_forwarded_port_is_fine(client: httpx.Client) -> None:
    assert client.get("/api/runs", headers={**BEARER, "Host": "localhost:9999"}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1", "http://localhost:1", ""]
)
def test_a_write_from_another_site_is_refused(site: Site, client: httpx.Client, origin: str) -> None:
    headers = {"X-CSRF-Token": enter(client), "Idempotency-Key": "key-of-a-test"}
    (run_id,) = site.app.state.objects.folders("runs")
    path = f"/api/runs/{run_id}/stop"
    assert client.post(path, json={}, headers={**headers, "Origin": origin}).status_code == 403
    assert client.post(path, json={}, headers=headers).status_code == 403  # a browser always says where from
    assert (
        client.post(path, json={}, headers={**headers, "Origin": site.url}).status_code == 409
    )  # it has ended


def test_a_write_needs_the_csrf_token_of_its_session(site: Site, client: httpx.Client) -> None:
    csrf = enter(client)
    (run_id,) = site.app.state.objects.folders("runs")
    for wrong in ("", "x", Sessions(TOKEN).csrf("another session"), csrf[:-1]):
        headers = {"X-CSRF-Token": wrong, "Origin": site.url, "Idempotency-Key": "key-of-a-test"}
        assert client.post(f"/api/runs/{run_id}/stop", json={}, headers=headers).status_code == 403


@pytest.mark.parametrize("settings", [{"role": "viewer"}, {"read_only": True}])
def test_a_viewer_sees_and_changes_nothing(objects: Objects, settings: dict[str, object]) -> None:
    (run_id,) = objects.folders("runs")
    with serving(objects, **settings) as shown, httpx.Client(base_url=shown.url, headers=BEARER) as client:
        assert client.get("/api/runs").status_code == 200
        for path in (f"/api/runs/{run_id}/stop", "/api/launch", "/api/models/faces/promote", "/api/nothing"):
            assert client.post(path, json={}, headers={"Idempotency-Key": "key-of-a-test"}).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/api/runs/..%2f..%2fetc%2fpasswd",
        "/api/runs/../../../etc/passwd",
        "/api/runs/%2e%2e",
        "/api/runs/20261122-014500-k3v9qa%00",
        "/api/runs/20261122-014500-k3v9qa/samples/..%2f..%2frun.json.png",
        "/api/runs/20261122-014500-k3v9qa/samples/../run.json.png",
        "/api/runs/20261122-014500-k3v9qa/samples/%FF.png",
        "/api/models/..%2f..%2fetc",
        "/api/sweeps/..%2fruns",
        "/api/rate/..%2f/next",
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/security.py",
        "/static//etc/passwd",
    ],
)
def test_no_path_leads_out(site: Site, path: str) -> None:
    headers = f"Host: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close"
    answer = raw(site, f"GET {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode())
    assert answer.split()[1] in (b"400", b"404"), answer[:200]
    assert b"root:" not in answer
    assert b"import annotations" not in answer


def test_oversize_requests_are_refused(site: Site, client: httpx.Client) -> None:
    big = b"x" * (security.BODY + 1)
    assert client.post("/login", content=big).status_code == 413
    assert client.post("/login", content=iter([big[:40000], big[:40000]])).status_code == 413  # in pieces
    headers = {**BEARER, "Idempotency-Key": "key-of-a-test"}
    assert client.post("/api/launch", content=big, headers=headers).status_code == 413
    assert client.post("/api/launch", content=iter([big, big]), headers=headers).status_code == 413
    assert client.get("/api/compare", params={"runs": "x" * 20000}, headers=BEARER).status_code == 414
    lies = f"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {10**12}\r\n\r\n"
    assert b" 413 " in raw(site, lies.encode())


def test_a_flood_is_slowed_down(objects: Objects) -> None:
    with (
        serving(objects, rate=1.0, burst=20) as slow,
        httpx.Client(base_url=slow.url, headers=BEARER) as client,
    ):
        codes = [client.get("/api/openapi.json").status_code for _ in range(40)]
    assert codes[:20] == [200] * 20
    assert codes.count(429) >= 15


def test_buckets_refill_and_forget_the_longest_silent() -> None:
    buckets = Buckets(rate=1000.0, burst=2, clients=2)
    assert [buckets.take("a") for _ in range(2)] == [True, True]
    assert not Buckets(0.0, 1).take("a", cost=2)
    for client in ("b", "c"):
        buckets.take(client)
    assert list(buckets._left) == ["b", "c"]


def test_hostile_names_stay_text(client: httpx.Client, objects: Objects) -> None:
    (run_id,) = objects.folders("runs")
    for path in ("/api/runs", f"/api/runs/{run_id}", f"/api/runs/{run_id}/logs", "/api/alarms"):
        answer = client.get(path, headers=BEARER)
        assert answer.headers["content-type"] == "application/json"
        assert "<" not in answer.text, path
        assert HOSTILE in json.dumps(answer.json(), ensure_ascii=False), path
    assert "hunter2" not in client.get(f"/api/runs/{run_id}/logs", headers=BEARER).text


def test_every_answer_has_the_headers_that_keep_a_browser_safe(client: httpx.Client) -> None:
    for path in ("/", "/login", "/api/runs", "/static/css/base.css", "/nowhere", "/favicon.ico"):
        for headers in ({}, BEARER):
            answer = client.get(path, headers=headers)
            assert answer.headers["content-security-policy"] == security.POLICY
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "server" not in answer.headers or "uvicorn" in answer.headers["server"]
    assert "unsafe" not in security.POLICY


def test_secrets_are_masked_in_logs() -> None:
    assert masked("AWS_SECRET_ACCESS_KEY=abc123 and step 3") == "AWS_SECRET_ACCESS_KEY=… and step 3"
    assert masked("Authorization: Bearer abc.def rest") == "Authorization: … rest"
    assert masked("'api_key': 'x y z', 'other': 1") == "'api_key': …, 'other': 1"
    assert masked("tokens 3 of 4") == "tokens 3 of 4"


def test_settings_do_not_show_the_token() -> None:
    assert "hush" not in repr(Settings(token="hush hush"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"host": "0.0.0.0"}, "add --public"),
        ({"host": "0.0.0.0", "public": True}, "without TLS"),
        ({"public": True, "proxy": "http://plain.example"}, "https://"),
        ({"role": "root"}, "viewer or operator"),
        ({"certificate": Path("/nowhere.pem")}, "belong together"),
    ],
)
def test_what_would_be_unsafe_does_not_start(given: dict[str, object], said: str) -> None:
    safe: dict[str, object] = {"host": "127.0.0.1", "role": "viewer", "public": False, "proxy": ""}
    with pytest.raises(ConfigError, match=said):
        cli._check(**{**safe, "certificate": None, "key": None, **given})  # type: ignore[arg-type]
    cli._check(**{**safe, "certificate": None, "key": None})  # type: ignore[arg-type]
    public = {"host": "0.0.0.0", "public": True, "proxy": "https://gans.example"}
    cli._check(**{**safe, "certificate": None, "key": None, **public})  # type: ignore[arg-type]


def test_a_token_file_is_made_once_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = cli._token(path)
    assert len(token) > 40
    assert cli._token(path) == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("short")
    with pytest.raises(ConfigError, match="16 characters"):
        cli._token(path)


def test_behind_a_proxy_the_origin_is_the_proxys_and_cookies_are_secure(objects: Objects) -> None:
    hosts = ("127.0.0.1", "gans.example")
    given = {"hosts": hosts, "origin": "https://gans.example", "secure": True}
    with serving(objects, **given) as site, httpx.Client(base_url=site.url) as client:
        host = {"Host": "gans.example"}
        entered = client.get("/", params={"token": TOKEN}, headers=host)
        assert "secure" in entered.headers["set-cookie"].lower()
        assert "strict-transport-security" in entered.headers
        data = {"token": TOKEN}
        for origin, code in (("https://gans.example", 303), ("https://evil.example", 403)):
            assert client.post("/login", data=data, headers={**host, "Origin": origin}).status_code == code
