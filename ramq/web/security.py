"""Who may ask, from where, and how much: tokens, host and origin checks, request sizes, response headers.

The rules, in the order in which they are applied:

1. Without tokens the server is for this machine alone, so the ``Host`` must be a loopback name: a page elsewhere that
   points a name of its own at 127.0.0.1 (DNS rebinding) is refused.
2. With tokens everything but health and static files needs one: ``Authorization: Bearer``, or the cookie that the
   page's sign-in sets. The cookie holds a digest of the token, ``HttpOnly`` and ``SameSite=Strict``.
3. A request that changes something and was not made with a bearer token must not come from another site.
4. Bodies are limited in size, whether their length is declared or not.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "ramq_session"
UPLOAD_PATHS = frozenset({"/v1/search/image", "/search/image"})
MAX_UPLOAD_BYTES = 32 * 1024 * 1024
MAX_BODY_BYTES = 256 * 1024
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/login"})

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: with it browsers send `Origin: null` with the page's own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Tokens:
    """The tokens that are accepted. Compared in constant time; none set means that none is needed."""

    def __init__(self, tokens: tuple[str, ...]) -> None:
        self._tokens = tuple(token.encode() for token in tokens)
        self._sessions = tuple(_session(token) for token in self._tokens)

    @property
    def are_set(self) -> bool:
        """Whether a token is needed at all."""
        return bool(self._tokens)

    def session_of(self, token: str) -> str | None:
        """Return the cookie's value for ``token``, or None if it is not one of ours."""
        found = None
        for known, session in zip(self._tokens, self._sessions, strict=True):
            if hmac.compare_digest(known, token.strip().encode()):
                found = session
        return found

    def allow(self, connection: HTTPConnection) -> bool:
        """Whether ``connection`` carries a token or a session of ours."""
        token = bearer_token(connection.headers)
        if token is not None:
            return self.session_of(token) is not None
        cookie = connection.cookies.get(COOKIE, "").encode()
        return any(hmac.compare_digest(session.encode(), cookie) for session in self._sessions)


def _session(token: bytes) -> str:
    return hmac.digest(token, b"ramq page session", hashlib.sha256).hex()


def bearer_token(headers: Headers) -> str | None:
    """Return the token of ``Authorization: Bearer``, or None."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address, without a port) is this machine and nothing else."""
    host = host.strip("[]").lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_same_origin(headers: Headers) -> bool:
    """Whether a browser says that the request comes from our own page. Other programs say nothing, which is fine."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host", "")


class Gate:
    """The layer around the application that applies the rules above and adds the headers to every answer."""

    def __init__(
        self, app: ASGIApp, *, tokens: Tokens, refuse: Callable[[HTTPConnection, HTTPException], Response]
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        connection = HTTPConnection(scope)
        try:
            if self._must_sign_in(connection):
                await _sign_in(connection)(scope, receive, send_with_headers)
                return
            self._check(connection)
        except HTTPException as error:
            await self._refuse(connection, error)(scope, receive, send_with_headers)
            return
        await self._app(scope, _limited(receive, _limit_for(connection)), send_with_headers)

    def _must_sign_in(self, connection: HTTPConnection) -> bool:
        is_screen = connection.scope["method"] == "GET" and not connection.url.path.startswith("/v1/")
        wants_html = "text/html" in connection.headers.get("accept", "")
        return is_screen and wants_html and not self._is_open(connection)

    def _is_open(self, connection: HTTPConnection) -> bool:
        path = connection.url.path
        if not self._tokens.are_set or path in OPEN_PATHS or path.startswith("/static/"):
            return True
        return self._tokens.allow(connection)

    def _check(self, connection: HTTPConnection) -> None:
        headers = connection.headers
        if not self._tokens.are_set and not is_loopback(connection.url.hostname or ""):
            detail = "Without tokens only this machine is served, by the names localhost and 127.0.0.1."
            raise HTTPException(421, detail)
        if not self._is_open(connection):
            detail = "Send one of the tokens in RAMQ_API_TOKENS as `Authorization: Bearer TOKEN`."
            raise HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})
        is_by_token = self._tokens.are_set and bearer_token(headers) is not None
        if connection.scope["method"] not in SAFE_METHODS and not is_by_token and not is_same_origin(headers):
            raise HTTPException(403, "A request that changes something must come from this site's own pages.")
        length = headers.get("content-length", "0")
        limit = _limit_for(connection)
        if not length.isdecimal() or int(length) > limit:
            raise _too_large(limit)


def _limit_for(connection: HTTPConnection) -> int:
    return MAX_UPLOAD_BYTES if connection.url.path in UPLOAD_PATHS else MAX_BODY_BYTES


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"The request is larger than {limit // 1024:,} KiB, the most that is taken here.")


def _limited(receive: Receive, limit: int) -> Receive:
    """Wrap ``receive`` so that a body without a declared length ends the request once it is over ``limit`` bytes."""
    received = 0

    async def receive_limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit)
        return message

    return receive_limited


def _sign_in(connection: HTTPConnection) -> Response:
    if connection.headers.get("hx-request") == "true":
        # A live part of a screen whose session ended: the whole screen goes to the sign-in, not the part.
        return Response(status_code=204, headers={"HX-Redirect": "/login"})
    target = connection.url.path + (f"?{connection.url.query}" if connection.url.query else "")
    return RedirectResponse(f"/login?next={quote(target, safe='')}", status_code=303)
