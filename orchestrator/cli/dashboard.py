"""`ganctl dashboard`: the web application over a store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.output import STORE, StoreOption, command, say

if TYPE_CHECKING:
    from orchestrator.dashboard.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ROLES = ("viewer", "operator")

Host = Annotated[
    str, typer.Option("--host", help="Address to listen on; others than this machine's own: --public.")
]
Port = Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")]
Role = Annotated[str, typer.Option("--role", help="viewer: it shows; operator: it also acts.")]
Public = Annotated[
    bool, typer.Option("--public", help="Let others reach it; needs --certificate or --proxy.")
]
Proxy = Annotated[
    str,
    typer.Option(
        "--proxy", metavar="URL", help="https:// address of the proxy in front of it, which adds TLS."
    ),
]
Certificate = Annotated[Path | None, typer.Option("--certificate", help="TLS certificate, PEM.")]
Key = Annotated[Path | None, typer.Option("--key", help="Private key of the certificate, PEM.")]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", help="Keep the token in this file, so that a restart keeps people in."),
]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("dashboard")(command(dashboard))


def dashboard(
    host: Host = "127.0.0.1",
    port: Port = 8080,
    role: Role = "operator",
    public: Public = False,
    proxy: Proxy = "",
    certificate: Certificate = None,
    key: Key = None,
    token_file: TokenFile = None,
    store: StoreOption = STORE,
) -> None:
    """Serve the dashboard over the store: runs, curves, samples, models; Ctrl-C ends it."""
    from orchestrator.store.objects import open_objects

    _check(host, role, public, proxy, certificate, key)
    objects = open_objects(store)
    token = _token(token_file)
    settings = _settings(token, host, port, role, proxy, certificate is not None)
    from orchestrator.dashboard.server import bound, serve

    with bound(host, port) as listening:
        scheme = "https" if certificate else "http"
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        address = proxy.rstrip("/") or f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{port}"
        say(f"dashboard  {address}/{'' if token_file else f'?token={token}'}")
        if token_file:
            say(f"token      in {token_file}")
        say(f"store      {objects.url}")
        say("\nCtrl-C ends it")
        serve(objects, settings, listening, certificate, key)


def _check(
    host: str, role: str, public: bool, proxy: str, certificate: Path | None, key: Path | None
) -> None:
    """Raise ConfigError with every mistake."""
    from orchestrator.errors import ConfigError

    wrong = []
    if role not in ROLES:
        wrong.append(f"--role {role}: viewer or operator")
    if (certificate is None) != (key is None):
        wrong.append("--certificate and --key belong together")
    wrong += [
        f"{path}: no such file" for path in (certificate, key) if path is not None and not path.is_file()
    ]
    if proxy and not proxy.startswith("https://"):
        wrong.append(f"--proxy {proxy}: the https:// address that browsers use")
    if host not in LOOPBACK and not public:
        wrong.append(f"--host {host} lets others in: add --public, with --certificate and --key or --proxy")
    if public and certificate is None and not proxy:
        wrong.append(
            "--public without TLS would send the token in the clear: add --certificate and --key, or --proxy"
        )
    if wrong:
        raise ConfigError("\n".join(wrong))


def _token(path: Path | None) -> str:
    """The token in the file, a fresh one where there is no file."""
    import secrets
    from contextlib import suppress

    from orchestrator.errors import ConfigError

    fresh = secrets.token_urlsafe(32)
    if path is None:
        return fresh
    with (
        suppress(FileExistsError),
        os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file,
    ):
        file.write(fresh)
    token = path.read_text().strip()
    if len(token) < 16:
        raise ConfigError(
            f"--token-file {path}: a token has 16 characters at least; delete it for a fresh one"
        )
    return token


def _settings(token: str, host: str, port: int, role: str, proxy: str, tls: bool) -> Settings:
    """What the application is told; Prefect and Ray as `ganctl up` or the environment names them."""
    import socket

    from orchestrator.background import join
    from orchestrator.dashboard.security import origin_of
    from orchestrator.dashboard.settings import Settings

    background = join()
    origin, name = origin_of(proxy) if proxy else ("", "")
    mine = (
        {host, *LOOPBACK} if host in LOOPBACK else {host, *LOOPBACK, socket.gethostname(), socket.getfqdn()}
    )
    return Settings(
        token=token,
        hosts=tuple(sorted({n.lower() for n in (*mine, name) if n and n not in ("0.0.0.0", "::")})),
        port=port,
        role="viewer" if role == "viewer" else "operator",
        prefect=os.environ.get("PREFECT_API_URL", ""),
        ray=background.ray if background else os.environ.get("RAY_API_SERVER_ADDRESS", ""),
        ray_token_path=os.environ.get("RAY_AUTH_TOKEN_PATH", ""),
        origin=origin,
        secure=tls or bool(proxy),
    )
