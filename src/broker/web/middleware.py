"""The middleware around every endpoint: CORS, and the responses to errors."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.addresses import names_loopback
from broker.broker import Broker
from broker.errors import BadRequest, Forbidden, Unavailable
from broker.origins import origins_matcher
from broker.web.credentials import is_operator
from broker.web.problems import problem_of, problem_response
from broker.web.requests import Disconnected, Header, Response, header, is_from_here

logger = logging.getLogger("broker.web")

_WARNINGS_MAX = 20  # origins; strangers choose what is in the header, so the log must not grow with it

_ALLOWED = ("Authorization", "Content-Type", "Last-Event-ID", "Prefer", "Cache-Control", "If-None-Match")
_EXPOSED = b"Date, ETag, Last-Event-ID, Link, Retry-After"
_FOR_EVERYBODY = ("/healthz", "/readyz", "/metrics")  # paths with nothing of the log; the last one has its own token
_TWO_WAYS = "its operator gives it rules (broker rules init, docs/access.md), or starts it with --open"
# To a request that the server cannot wait for.
STOPPING = problem_response(
    Unavailable("the server is stopping; send this again in a moment (it may have been stored)")
)
_MAX_AGE = b"7200"  # seconds; Chromium caches a preflight no longer than that


class CORS:
    """Adds the headers of Cross-Origin Resource Sharing (https://fetch.spec.whatwg.org) to every response, errors and
    streams too, for pages of the ``origins`` that ``parse_origin`` returned. ``allow`` has the names of headers that
    pages may send beyond those that Broker knows.

    ``Vary: Origin`` is always there, so that no cache gives one page's response to another. Credentials, which are
    cookies for browsers, are allowed to the origins in ``credentials`` alone. A cookie counts for nothing that changes
    anything (``web/credentials.py``).

    Mutable state: the origins of which the log has warned."""

    def __init__(
        self, app: ASGIApp, origins: tuple[str, ...], allow: tuple[str, ...] = (), credentials: tuple[str, ...] = ()
    ) -> None:
        self._app = app
        self._any = "*" in origins
        self._matches = origins_matcher(origins)
        self._with_credentials = origins_matcher(credentials)
        known = {name.lower() for name in _ALLOWED}
        allowed = (*_ALLOWED, *(name for name in dict.fromkeys(allow) if name.lower() not in known))
        self._preflight: tuple[Header, ...] = (
            (b"access-control-allow-methods", b"GET, HEAD, POST"),
            (b"access-control-allow-headers", ", ".join(allowed).encode()),
            (b"access-control-max-age", _MAX_AGE),
        )
        self._warned: set[str] = set()

    def headers(self, scope: Scope) -> list[Header]:
        """Returns what is added to the response to this request."""
        headers: list[Header] = [(b"vary", b"Origin")]
        origin = header(scope, b"origin")
        if origin is not None and (self._any or self._matches(origin.lower())):
            headers.append((b"access-control-allow-origin", b"*" if self._any else origin.encode("latin-1")))
            headers.append((b"access-control-expose-headers", _EXPOSED))
            if self._with_credentials(origin.lower()):
                headers.append((b"access-control-allow-credentials", b"true"))
        elif origin is not None and origin.partition("://")[2] != header(scope, b"host"):
            self._warn(origin)
        return headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = self.headers(scope)
        if scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method") is not None:
            # The response is a 204 for every origin. Without an allow-origin among the headers, the browser blocks the
            # request by itself.
            await send({"type": "http.response.start", "status": 204, "headers": [*headers, *self._preflight]})
            await send({"type": "http.response.body"})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = message.get("headers", ())
                # What is for pages of every origin says so itself (the files of the client).
                if not any(name == b"access-control-allow-origin" for name, _ in own):
                    message["headers"] = [*own, *headers]
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _warn(self, origin: str) -> None:
        """Logs once for each origin, because a browser shows its user little of what was wrong."""
        if origin in self._warned or len(self._warned) >= _WARNINGS_MAX:
            return
        self._warned.add(origin)
        if origin == "null":  # every sandboxed page has this origin, so it cannot be allowed
            logger.warning(
                "blocked a cross-origin request from a page whose origin is null: it was opened from the disk, or is "
                "in a sandboxed frame; serve it over http, and allow its origin then: --origin http://localhost:3000"
            )
        else:
            logger.warning(
                "blocked a cross-origin request from %.100r; to allow it, restart with --origin %.100r", origin, origin
            )


class Open:
    """Refuses requests from other machines as long as there are no rules, unless the settings permit them: otherwise
    everybody who reaches the server could read and change everything. Requests for the health and the metrics of the
    server are answered all the same.

    A request without an address is refused, too, unless it is the operator's: it came over a Unix socket, and mostly a
    proxy has passed it on, for a client that may be anywhere. And the request must name this machine itself."""

    def __init__(self, app: ASGIApp, broker: Broker) -> None:
        self._app = app
        self._broker = broker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.check(scope)
        await self._app(scope, receive, send)

    @property
    def restricts(self) -> bool:
        """Whether requests from other machines are refused now."""
        broker = self._broker
        return broker.rights.rules is None and not broker.settings.open and broker.running

    def is_local(self, scope: Scope) -> bool:
        """Returns whether a request is served while requests from other machines are refused. It does not depend on the
        time of the call."""
        try:
            self._check_local(scope)
        except Forbidden:
            return False
        return True

    def check(self, scope: Scope) -> None:
        """Raises Forbidden."""
        if self.restricts and not is_operator(scope):
            path = scope["path"].removeprefix(scope.get("root_path", ""))  # without that of a mount
            if path not in _FOR_EVERYBODY:
                self._check_local(scope)

    def _check_local(self, scope: Scope) -> None:
        """Raises Forbidden.

        The danger: a page from anywhere, open in a browser on this machine, could make the name of its own server mean
        127.0.0.1 (DNS rebinding). For the browser, Broker would then be that server, and the page could read and change
        everything. But the browser sends this name as ``Host``. Programs that send no ``Host`` are no browsers."""
        if not is_from_here(scope, through_proxy=True):
            raise Forbidden(f"this server has no rules yet, so it serves only its own machine; {_TWO_WAYS}")
        host = header(scope, b"host")
        # The address that the server listens on is of this machine: without rules, it would not start otherwise.
        if host is not None and not names_loopback(host, self._broker.settings.host):
            raise Forbidden(
                "this server has no rules yet, so it serves only its own machine, as localhost or 127.0.0.1, and not "
                f"as {host[:100]} (Host); {_TWO_WAYS}"
            )


class Problems:
    """Turns every error into a response, unless a response has begun. ``refusals`` counts the errors by status."""

    def __init__(self, app: ASGIApp, refusals: Counter[int]) -> None:
        self._app = app
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            # The routes are regular expressions, and their $ ignores a line break at the end of the path.
            if "\n" in scope["path"]:
                raise BadRequest("the URL has a line break; remove it")
            await self._app(scope, receive, watch)
        except Disconnected:
            pass
        except asyncio.CancelledError:  # the server is stopping, and the grace period for open requests is over
            if started:
                raise
            await STOPPING.send(send)
        except Exception as error:
            response = self.response(error, scope, logged=not started)
            if started:
                raise  # the server closes the connection, so that no client takes half a response for a whole one
            await response.send(send)

    def response(self, error: Exception, scope: Scope, *, logged: bool = True) -> Response:
        """Returns the response to an error, which is being handled. ``logged``: whether the log gets what was not
        foreseen."""
        problem = problem_of(error)
        self._refusals[problem.status] += 1
        if problem.status == 500 and logged:
            logger.exception("%s %.1000r failed", scope["method"], scope["path"])
        return problem_response(problem)
