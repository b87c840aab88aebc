"""Who may ask what: host, size, rate, session, origin, CSRF, role. One ASGI layer around the whole application.

A person opens the address with the token once; from then on a cookie says that they did: an expiry and a nonce, signed
with a key that follows from the token. Scripts send the token itself as `Authorization: Bearer`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from html import escape
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import URL, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.dashboard.replies import error
from orchestrator.dashboard.settings import Settings

BODY = 64 * 1024  # bytes of a request
URL_BYTES = 16 * 1024
SESSION = 14 * 86400  # seconds until the token is asked for again
GUESSES, GUESS_SECONDS = 10, 60.0  # wrong tokens a client may send
SAFE = ("GET", "HEAD", "OPTIONS")
OPEN = ("/static/", "/favicon.ico", "/login")  # no secret is there
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "worker-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
ASK = "Open the address that `ganctl dashboard` printed, or give its token."
LOGIN = """<!doctype html><html lang="en"><meta charset="utf-8"><title>ganctl</title>
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/static/css/base.css">
<main><h1>ganctl</h1><p>{say}</p><form method="post" action="/login"><label>Token
<input type="hidden" name="next" value="{inside}">
<input name="token" type="password" autocomplete="current-password" autofocus required></label>
<button>Open</button></form></main></html>"""


class Sessions:
    """Cookies and CSRF tokens: what is signed, nothing is kept."""

    def __init__(self, token: str) -> None:
        assert token, "a dashboard without a token lets everybody in"
        self._token = token.encode()
        self._key = hashlib.sha256(b"ganctl session " + self._token).digest()

    def knows(self, token: str) -> bool:
        """Whether this is the token, in constant time."""
        return hmac.compare_digest(token.encode(), self._token)

    def open(self) -> str:
        """A fresh cookie."""
        told = f"{int(time.time()) + SESSION}.{secrets.token_urlsafe(12)}"
        return f"{told}.{self._sign('session', told)}"

    def holds(self, cookie: str) -> bool:
        """Whether we signed this cookie and it has not expired."""
        told, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign("session", told).encode()):
            return False
        return int(told.partition(".")[0]) > time.time()

    def csrf(self, cookie: str) -> str:
        """What a page of that session sends with every write."""
        return self._sign("csrf", cookie)

    def _sign(self, what: str, text: str) -> str:
        return hmac.new(self._key, f"{what}:{text}".encode(), hashlib.sha256).hexdigest()


class Buckets:
    """Tokens a client: `rate` a second come back, `burst` at most. The longest silent client is forgotten first."""

    def __init__(self, rate: float, burst: float, clients: int = 10_000) -> None:
        self.rate, self.burst, self.clients = rate, burst, clients
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, cost: float = 1.0) -> bool:
        """Whether the client may go on."""
        now = time.monotonic()
        left, since = self._left.pop(client, (self.burst, now))
        left = min(self.burst, left + (now - since) * self.rate)
        self._left[client] = (left - cost if left >= cost else left, now)
        if len(self._left) > self.clients:
            self._left.popitem(last=False)
        return left >= cost


class TooLarge(Exception):
    """The body of a request is larger than any of ours."""


class Guard:
    """The layer around `app`."""

    def __init__(self, app: ASGIApp, settings: Settings, sessions: Sessions) -> None:
        self.app, self.settings, self.sessions = app, settings, sessions
        self.requests = Buckets(settings.rate, settings.burst)
        self.guesses = Buckets(GUESSES / GUESS_SECONDS, GUESSES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no WebSockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        request, began = Request(scope), False

        async def guarded(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                _protect(message, self.settings.secure)
            await send(message)

        try:
            refused = self._refuse(request) or await self._enter(request, receive)
            if refused is not None:
                await refused(scope, receive, guarded)
            else:
                await self.app(scope, _bounded(receive), guarded)
        except TooLarge:
            if not began:
                await error(413, f"a request has at most {BODY} bytes")(scope, receive, guarded)

    def _refuse(self, request: Request) -> Response | None:
        """What is refused before anybody is asked who they are."""
        host = request.headers.get("host", "")
        if _name(host) not in self.settings.hosts or len(request.headers.getlist("host")) != 1:
            return error(
                421, "this dashboard does not go by that name; start it with --host or --proxy for it"
            )
        if not self.requests.take(_client(request)):
            return error(429, "too many requests; wait a moment", {"Retry-After": "2"})
        if len(request.url.path) + len(request.url.query) > URL_BYTES:
            return error(414, f"an address has at most {URL_BYTES} characters")
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > BODY:
            return error(413, f"a request has at most {BODY} bytes")
        return None

    async def _enter(self, request: Request, receive: Receive) -> Response | None:
        """None for who may pass; else the answer: the way in, or why not."""
        path, cookie = request.url.path, request.cookies.get(self.settings.cookie, "")
        bearer = request.headers.get("authorization", "")
        if request.method not in SAFE and not self._same_origin(request):
            return error(403, "a request from another site is refused")
        if path == "/login" and request.method == "POST":
            form = parse_qs((await _body(receive)).decode("utf-8", "replace"))
            return self._login(request, form.get("token", [""])[0], _inside(form.get("next", ["/"])[0]))
        if request.method == "GET" and "token" in request.query_params and not path.startswith("/api/"):
            rest = [(k, v) for k, v in request.query_params.multi_items() if k != "token"]
            inside = path + (f"?{urlencode(rest)}" if rest else "")
            return self._login(request, request.query_params["token"], _inside(inside))
        if path.startswith(OPEN):
            return (
                self._form(200, ASK, _inside(request.query_params.get("next", "/")))
                if path == "/login"
                else None
            )
        scope = request.scope.setdefault("state", {})
        if bearer:
            return self._bearer(request, bearer)
        if not self._session(cookie):
            if path.startswith("/api/"):
                return error(
                    401, "log in first: the address with the token, or `Authorization: Bearer TOKEN`"
                )
            inside = path + (f"?{request.url.query}" if request.url.query else "")
            return self._form(401, ASK, _inside(inside))
        scope["csrf"], scope["who"] = self.sessions.csrf(cookie), self.settings.role
        return self._write(request, self.sessions.csrf(cookie))

    def _bearer(self, request: Request, header: str) -> Response | None:
        kind, _, token = header.partition(" ")
        if kind.lower() != "bearer" or not self.sessions.knows(token.strip()):
            return self._wrong(request) or error(401, "that is not this dashboard's token")
        request.scope["state"] |= {"csrf": "", "who": self.settings.role}
        return self._write(request, "")

    def _write(self, request: Request, csrf: str) -> Response | None:
        """Whether a write is one of our own pages', by somebody who may. `csrf` is empty for scripts."""
        if request.method in SAFE:
            return None
        if csrf and not hmac.compare_digest(request.headers.get("x-csrf-token", "").encode(), csrf.encode()):
            return error(403, "the page is of another session; reload it")
        if not self.settings.operates:
            return error(403, "this dashboard only shows; start it with --role operator to change anything")
        return None

    def _session(self, cookie: str) -> bool:
        try:
            return self.sessions.holds(cookie)
        except ValueError:
            return False

    def _login(self, request: Request, token: str, inside: str) -> Response:
        if not self.sessions.knows(token):
            return self._wrong(request) or self._form(401, "That is not this dashboard's token.", inside)
        answer = RedirectResponse(inside, 303, {"Cache-Control": "no-store"})
        answer.set_cookie(
            self.settings.cookie,
            self.sessions.open(),
            max_age=SESSION,
            httponly=True,
            samesite="strict",
            secure=self.settings.secure,
        )
        return answer

    def _wrong(self, request: Request) -> Response | None:
        if self.guesses.take(_client(request)):
            return None
        return error(429, "too many wrong tokens; wait a minute", {"Retry-After": "60"})

    def _same_origin(self, request: Request) -> bool:
        """Whether a write comes from our own pages; a script without a cookie has no origin."""
        origin = request.headers.get("origin")
        if origin is None:
            return self.settings.cookie not in request.cookies
        ours = self.settings.origin or f"{request.url.scheme}://{request.headers['host']}"
        return origin.lower() in (ours.lower(), f"{request.url.scheme}://{request.headers['host']}".lower())

    @staticmethod
    def _form(status: int, say: str, inside: str = "/") -> Response:
        page = LOGIN.format(say=escape(say), inside=escape(inside))
        return HTMLResponse(page, status, {"Cache-Control": "no-store"})


def _protect(message: Message, secure: bool) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("Cache-Control", "private, no-cache")
    if secure:
        headers.setdefault("Strict-Transport-Security", "max-age=31536000")


def _bounded(receive: Receive) -> Receive:
    """A body that is sent in pieces has no length: it is counted."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > BODY:
            raise TooLarge
        return message

    return counted


async def _body(receive: Receive) -> bytes:
    bounded, body = _bounded(receive), b""
    while True:
        message = await bounded()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


def _inside(path: str) -> str:
    """`path` where it leads to a page of ours, else the first page: a login must not send people elsewhere."""
    plain = path.startswith("/") and not path.startswith(("//", "/login")) and path.isprintable()
    return path if plain and "\\" not in path else "/"


def _name(host: str) -> str:
    """A Host header without its port; empty for what is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower() if host and "@" not in host else ""
    except ValueError:
        return ""


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


def origin_of(url: str) -> tuple[str, str]:
    """(origin, host name) of an address: `https://gans.example.org/` is known as `gans.example.org`."""
    parsed = URL(url)
    return f"{parsed.scheme}://{parsed.netloc}".lower(), (parsed.hostname or "").lower()
