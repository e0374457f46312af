"""Access control: tokens, rate limits, host and origin checks, request sizes, response headers.

The rules:

1. Without tokens in the settings and of users, the server is for this machine alone. The ``Host`` must be a loopback
   name, which refuses foreign pages whose name resolves to 127.0.0.1 (DNS rebinding).
2. With tokens, every path except health checks, sign-in and static files requires one. It is sent as
   ``Authorization: Bearer``, or as the cookie that the sign-in page sets. The cookie holds a digest of the token and
   a random number. It is ``HttpOnly`` and ``SameSite=Strict``, and counts until its session is ended by signing out.
3. The role of a token determines what it allows (``ramq.web.roles``). Answers that go on for long, such as event
   streams, end when the token is revoked.
4. The rate limit applies to each token, and to each address for requests without a token.
5. A request that changes something must come from our own site, unless it carries a bearer token.
6. Request bodies are limited in size, whether their length is declared or not.
7. Stores that send events of a watch know the watch's secret instead of a token, and may do nothing else.
"""

from __future__ import annotations

import ipaddress
import math
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response

from ramq.web.callers import NOBODY
from ramq.web.roles import SAFE_METHODS
from ramq.web.tokens import bearer_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ramq.web.callers import Caller, Callers
    from ramq.web.rate_limit import RateLimit
    from ramq.web.roles import Roles
    from storage.accounts import Role

MAX_UPLOAD_BYTES = 32 * 1024 * 1024
MAX_BODY_BYTES = 256 * 1024
MAX_LENGTH_DIGITS = 18
"""The maximum digits of a declared length. Python does not parse numbers with thousands of digits."""
UPLOAD_PATHS = frozenset({"/v1/search/image", "/search/image"})
SEARCH_PATHS = frozenset({"/", "/search/image", "/v1/search", "/v1/search/image", "/v1/tags", "/v1/export"})
"""What counts for a quota of searches."""
METRICS_PATH = "/metrics"
HEALTH_PATHS = frozenset({"/healthz", "/readyz"})
EVENTS_PATH = re.compile(r"/v1/watches/\d{1,19}/events")
"""Where stores send events. They send the secret of the watch, and no token."""
UNSURE_PATHS = frozenset({"/readyz", "/login", METRICS_PATH})
"""What is answered, as to nobody, if it is not known whether a token is valid."""
RETRY_AFTER_SECONDS = 5
MOST_SECONDS_TO_WAIT = 3_600
"""Who searched too much is told to wait at most so long."""
_FORWARDED = frozenset({"forwarded", "x-forwarded-for"})

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`, because browsers then send `Origin: null` with the forms of our own pages.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def is_loopback(host: str) -> bool:
    """Return whether ``host`` (a name or an address, without a port) can only be this machine."""
    host = host.strip("[]").lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_same_origin(headers: Headers) -> bool:
    """Return whether the request comes from our own site, by its headers. Only browsers send these headers.

    Requests of other programs, which do not have them, are accepted.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = headers.get("origin")
    # Not with urlsplit, which raises for some invalid addresses.
    return origin is None or origin.partition("://")[2] == headers.get("host", "")


class Gate:
    """The middleware that applies the rules above and adds the security headers to every response.

    Args:
        app: what answers the requests that are let in.
        callers: finds out who sends a request.
        roles: what each request needs.
        limit: the rate limit.
        refuse: answers the others.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        callers: Callers,
        roles: Roles,
        limit: RateLimit,
        refuse: Callable[[HTTPConnection, HTTPException], Response],
    ) -> None:
        self._app = app
        self._callers = callers
        self._roles = roles
        self._limit = limit
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on to the application, or answer it here."""
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
        is_for_anybody = scope["path"] == "/healthz" or scope["path"].startswith("/static/")
        caller = NOBODY if is_for_anybody else await self._callers.identify(connection)
        needed = None if is_for_anybody else self._roles.needed(scope["method"], scope["path"])
        try:
            self._check_rate(connection, caller)
            if _must_sign_in(connection, caller, needed):
                await _sign_in(connection)(scope, receive, send_with_headers)
                return
            self._check(connection, caller, needed)
            await self._check_searches(connection, caller)
        except HTTPException as error:
            await self._refuse(connection, error)(scope, receive, send_with_headers)
            return
        # The right may end while the answer is sent: a user's token is revoked, the first token is made, or who reads
        # signs out.
        is_of_settings = caller.token is not None and caller.token.id is None
        may_end = caller is not NOBODY and not (is_of_settings and bearer_token(connection.headers) is not None)
        sending = self._while_valid(connection, needed, send_with_headers) if may_end else send_with_headers
        await self._app(scope, _limited(receive, _limit_for(connection)), sending)

    def _while_valid(self, connection: HTTPConnection, needed: Role | None, send: Send) -> Send:
        """Wrap ``send`` so that it ends the answer once the token is valid no more. What follows is dropped."""
        has_ended = False

        async def send_while_valid(message: Message) -> None:
            nonlocal has_ended
            if has_ended:
                return
            if message.get("more_body"):
                caller = await self._callers.identify(connection)
                # While the database is away, nothing of it can be sent; the answer may go on afterwards.
                if not caller.is_unsure and not caller.may(needed):
                    has_ended = True
                    message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        return send_while_valid

    def _check_rate(self, connection: HTTPConnection, caller: Caller) -> None:
        path = connection.scope["path"]
        if path in HEALTH_PATHS or path.startswith("/static/") or _brings_events(connection):
            return
        if not caller.needs_token and self._limit.is_for_tokens_only:
            return
        # Requests without a valid token are limited by address, which also slows down guessing tokens.
        address = connection.client.host if connection.client else ""
        wait = self._limit.wait_seconds(f"token {caller.token.name}" if caller.token else f"address {address}")
        if wait:
            detail = "Too many requests: the limit is RAMQ_RATE_LIMIT. Wait for the seconds in Retry-After."
            raise HTTPException(429, detail, headers={"Retry-After": str(math.ceil(wait))})

    async def _check_searches(self, connection: HTTPConnection, caller: Caller) -> None:
        """Refuse a search above the quota of its user or token."""
        is_empty_box = connection.scope["path"] == "/" and not connection.scope["query_string"]
        if connection.scope["path"] not in SEARCH_PATHS or is_empty_box or (caller.needs_token and not caller.token):
            return
        quota = await self._callers.searches_of(caller.token)
        if quota is None:
            return
        who, name, most = quota
        wait = self._limit.search_wait_seconds(who, most)
        if not most:
            raise HTTPException(403, f"{name} may not search: the quota of searches per second is 0.")
        if wait:
            detail = f"{most:g} searches a second are the most for {name}. Wait for the seconds in Retry-After."
            raise HTTPException(429, detail, headers={"Retry-After": str(math.ceil(min(wait, MOST_SECONDS_TO_WAIT)))})

    def _check(self, connection: HTTPConnection, caller: Caller, needed: Role | None) -> None:
        headers = connection.headers
        method, path = connection.scope["method"], connection.scope["path"]
        # A client that shortens `/images/9/keywords/..` asks for `/images/9/`, which would be redirected to the image.
        if method not in SAFE_METHODS and len(path) > 1 and path.endswith("/"):
            raise HTTPException(404, "No such address: what changes something is named without a slash at the end.")
        # Health and static files tell nothing, and whether there are tokens is not looked up for them.
        if caller is not NOBODY and not caller.needs_token and not is_loopback(connection.url.hostname or ""):
            detail = "Without tokens, only this machine may connect. Use http://localhost or http://127.0.0.1."
            raise HTTPException(421, detail)
        if caller is not NOBODY and not caller.needs_token and not _FORWARDED.isdisjoint(headers.keys()):
            detail = "A proxy sends requests of others here, so make tokens: `ramq user add`, `ramq token create`."
            raise HTTPException(421, detail)
        if caller.is_unsure and connection.scope["path"] not in UNSURE_PATHS:
            detail = "The database does not answer, so it is not known whether the token is valid. Try again later."
            raise HTTPException(503, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
        # While the database is away, which services answer is told to anybody, as by `/readyz`: Prometheus has to know.
        tells_services = caller.is_unsure and path == METRICS_PATH
        if not caller.may(needed) and not tells_services:
            assert needed is not None
            if caller.token is None:
                detail = "Send a valid token as `Authorization: Bearer TOKEN`. `ramq token create` makes one."
                raise HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})
            raise HTTPException(403, caller.token.refusal(needed))
        is_by_token = caller.needs_token and bearer_token(headers) is not None
        if method not in SAFE_METHODS and not is_by_token and not is_same_origin(headers):
            raise HTTPException(
                403, "A request that changes data must come from a page of this site, or carry a bearer token."
            )
        length = headers.get("content-length", "0")
        limit = _limit_for(connection)
        if not length.isdecimal() or len(length) > MAX_LENGTH_DIGITS or int(length) > limit:
            raise _too_large(limit)


def _brings_events(connection: HTTPConnection) -> bool:
    """Return whether a store sends events. The route checks their secret, and limits those who do not know it."""
    return connection.scope["method"] == "POST" and EVENTS_PATH.fullmatch(connection.scope["path"]) is not None


def _must_sign_in(connection: HTTPConnection, caller: Caller, needed: Role | None) -> bool:
    is_screen = connection.scope["method"] == "GET" and not connection.scope["path"].startswith("/v1/")
    wants_html = "text/html" in connection.headers.get("accept", "")
    is_known = caller.token is not None or caller.is_unsure
    return is_screen and wants_html and not is_known and not caller.may(needed)


def _limit_for(connection: HTTPConnection) -> int:
    return MAX_UPLOAD_BYTES if connection.scope["path"] in UPLOAD_PATHS else MAX_BODY_BYTES


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"The request is too large; the limit is {limit // 1024:,} KiB.")


def _limited(receive: Receive, limit: int) -> Receive:
    """Wrap ``receive`` so that it raises once a body without a declared length exceeds ``limit`` bytes."""
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
        # A live part of a page, whose session has ended. Send the whole page to the sign-in, not only the part.
        return Response(status_code=204, headers={"HX-Redirect": "/login"})
    target = connection.url.path + (f"?{connection.url.query}" if connection.url.query else "")
    return RedirectResponse(f"/login?next={quote(target, safe='')}", status_code=303)
