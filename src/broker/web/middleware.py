"""The middleware around every endpoint: CORS, and the responses to errors."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.errors import BadRequest, Unavailable
from broker.origins import origins_matcher
from broker.web.problems import problem_of, send_problem
from broker.web.requests import Disconnected, Header, header

logger = logging.getLogger("broker.web")

_WARNINGS_MAX = 20  # origins; strangers choose what is in the header, so the log must not grow with it

_ALLOWED = ("Authorization", "Content-Type", "Last-Event-ID", "Prefer", "Cache-Control", "If-None-Match")
_EXPOSED = b"Date, ETag, Last-Event-ID, Link, Retry-After"
_MAX_AGE = b"7200"  # seconds; Chromium caches a preflight no longer than that


class CORS:
    """Adds the headers of Cross-Origin Resource Sharing (https://fetch.spec.whatwg.org) to every response, errors and
    streams too, for pages of the ``origins`` that ``parse_origin`` returned. ``allow`` has the names of headers that
    pages may send beyond those that Broker knows.

    ``Vary: Origin`` is always there, so that no cache gives one page's response to another. Credentials are never
    allowed: tokens travel in a header, not in cookies.

    Mutable state: the origins of which the log has warned."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...], allow: tuple[str, ...] = ()) -> None:
        self._app = app
        self._any = "*" in origins
        self._matches = origins_matcher(origins)
        known = {name.lower() for name in _ALLOWED}
        allowed = (*_ALLOWED, *(name for name in dict.fromkeys(allow) if name.lower() not in known))
        self._preflight: tuple[Header, ...] = (
            (b"access-control-allow-methods", b"GET, HEAD, POST"),
            (b"access-control-allow-headers", ", ".join(allowed).encode()),
            (b"access-control-max-age", _MAX_AGE),
        )
        self._warned: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: list[Header] = [(b"vary", b"Origin")]
        origin = header(scope, b"origin")
        if origin is not None and (self._any or self._matches(origin.lower())):
            headers.append((b"access-control-allow-origin", b"*" if self._any else origin.encode("latin-1")))
            headers.append((b"access-control-expose-headers", _EXPOSED))
        elif origin is not None and origin.partition("://")[2] != header(scope, b"host"):
            self._warn(origin)
        if scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method") is not None:
            # The same answer for every origin: without an allow-origin among the headers the browser refuses by itself.
            await send({"type": "http.response.start", "status": 204, "headers": [*headers, *self._preflight]})
            await send({"type": "http.response.body"})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *headers]
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
                "blocked a cross-origin request from %.100r; to allow it, restart with --origin %.100s", origin, origin
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
            await send_problem(
                send, Unavailable("the server is stopping; send this again in a moment (it may have been stored)")
            )
        except Exception as error:
            problem = problem_of(error)
            self._refusals[problem.status] += 1
            if problem.status == 500 and not started:
                logger.exception("%s %s failed", scope["method"], scope["path"])
            if started:
                raise  # the server closes the connection, so that no client takes half a response for a whole one
            await send_problem(send, problem)
