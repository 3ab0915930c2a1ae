"""Around every endpoint: CORS, and errors made into answers."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.errors import BadRequest, Unavailable
from broker.web.problems import problem_of, send_problem
from broker.web.requests import Disconnected, Header, header

logger = logging.getLogger("broker.web")

_ORIGINS_TOLD_MAX = 20

_ALLOWED = ("Authorization", "Content-Type", "Last-Event-ID", "Prefer", "Cache-Control")
_MAX_AGE = b"7200"  # seconds; the longest that Chromium keeps


class CORS:
    """Headers on every answer, errors and streams too, for the pages of the given origins, which are in the form that
    browsers send. ``allow``: the names of headers that pages may send beyond those that Broker knows.

    ``Vary: Origin`` always, so that no cache gives one page's answer to another. Never with credentials: tokens travel
    in a header, not in cookies."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...], allow: tuple[str, ...] = ()) -> None:
        self._app = app
        self._any = "*" in origins
        self._origins = frozenset(origins)
        known = {name.lower() for name in _ALLOWED}
        allowed = (*_ALLOWED, *(name for name in dict.fromkeys(allow) if name.lower() not in known))
        self._preflight: tuple[Header, ...] = (
            (b"access-control-allow-methods", b"GET, HEAD, POST"),
            (b"access-control-allow-headers", ", ".join(allowed).encode()),
            (b"access-control-max-age", _MAX_AGE),
        )
        self._told: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: list[Header] = [(b"vary", b"Origin")]
        origin = header(scope, b"origin")
        if origin is not None and (self._any or origin.lower() in self._origins):
            headers.append((b"access-control-allow-origin", b"*" if self._any else origin.encode("latin-1")))
            headers.append((b"access-control-expose-headers", b"Link, Retry-After"))
        elif origin is not None and origin.partition("://")[2] != header(scope, b"host"):
            self._tell(origin)
        if scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method") is not None:
            # Without an allow-origin among the headers the browser refuses by itself.
            await send({"type": "http.response.start", "status": 204, "headers": [*headers, *self._preflight]})
            await send({"type": "http.response.body"})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *headers]
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _tell(self, origin: str) -> None:
        """Once for each origin, and for a few only: a browser shows its user little, and strangers write the header."""
        if origin not in self._told and len(self._told) < _ORIGINS_TOLD_MAX:
            self._told.add(origin)
            if origin == "null":  # anybody's page can have it: it is never among the origins
                logger.warning(
                    "a page whose origin is null cannot read the answers: it was opened from the disk, or is in a "
                    "sandboxed frame; serve it over http, and add the origin of that: --origin http://localhost:3000"
                )
                return
            logger.warning("a page from %.100r cannot read the answers; to let it, add its origin: --origin", origin)


class Problems:
    """Every error becomes an answer, unless one has begun already. ``refusals`` counts them by status."""

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
            # The routes are regular expressions, for which a line break at the end does not count.
            if "\n" in scope["path"]:
                raise BadRequest("the address has a line break; take it out")
            await self._app(scope, receive, watch)
        except Disconnected:
            pass
        except asyncio.CancelledError:  # the server stops, and the grace of requests under way is over
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
                raise  # the server cuts the connection off, so that nobody takes half an answer for a whole one
            await send_problem(send, problem)
