"""The second door to ``POST /insert`` and to ``GET /events``, for Broker's own server: a request that has arrived whole
is answered without ASGI, with what the route would answer, the middleware included.

There are two ways to answer an insert. ``answer`` answers any request, and is a coroutine. ``prepare``, ``begin`` and
``end`` cost less, because what follows from the head of a request is worked out once for all requests of a connection
with the same head, and because no task is needed: nothing has to be waited for but the commit. Whatever they cannot do,
and every refusal that comes before the commit, is left to ``answer``.

A stream is opened without ASGI if nothing has to be waited for, and nothing is wrong with the request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from starlette.types import Scope

from broker.broker import Broker
from broker.errors import BrokerError
from broker.live.handover import Handover
from broker.store.base import Result
from broker.web.credentials import bearer_token, is_operator
from broker.web.insert import Head, Insert, Work
from broker.web.middleware import CORS, STOPPING, Open, Problems
from broker.web.requests import Header, Response
from broker.web.stream import Opening, Stream


class Prepared(NamedTuple):
    """What follows from the head of a request, whenever it is asked."""

    scope: Scope
    head: Head
    token: str
    local: bool  # whether it is served while other machines are refused
    added: tuple[Header, ...]  # to the response


class Begun(NamedTuple):
    """A request whose records wait for their commit."""

    prepared: Prepared
    work: Work
    future: asyncio.Future[list[Result]]


class DirectInsert:
    """Answers requests to insert. ``scope`` always has the head of a request, without its body."""

    def __init__(self, broker: Broker, insert: Insert, cors: CORS, open: Open, problems: Problems) -> None:
        self._broker = broker
        self._insert = insert
        self._cors = cors
        self._open = open
        self._problems = problems

    async def answer(self, scope: Scope, body: bytes) -> Response:
        added = tuple(self._cors.headers(scope))
        try:
            self._open.check(scope)
            response = await self._insert.insert_whole(scope, body)
        except asyncio.CancelledError:  # as in ``Problems``
            response = STOPPING
        except Exception as error:
            response = self._problems.response(error, scope)
        return response.adding(added)

    def prepare(self, scope: Scope) -> Prepared | None:
        """Returns None for a request that ``answer`` must answer."""
        if is_operator(scope):
            return None
        try:
            # Where strangers may insert, rates are counted, so nothing is lost if ``answer`` answers them.
            token = bearer_token(scope)
            head = self._insert.read_head(scope)
        except BrokerError:
            return None
        return Prepared(scope, head, token, self._open.is_local(scope), tuple(self._cors.headers(scope)))

    def begin(self, prepared: Prepared, body: bytes) -> Begun | None:
        """Returns None if ``answer`` must answer the request. Nothing was done then."""
        if (self._open.restricts and not prepared.local) or self._broker.counts_rates:
            return None
        try:
            known = self._broker.accounts.authenticate_cached(prepared.token)
            return None if known is None else Begun(prepared, *self._insert.begin(prepared.head, known[0], body))
        except Exception:  # ``answer`` meets it again, and responds
            return None

    def end(self, begun: Begun) -> Response:
        """Returns the response, once the future is done."""
        try:
            response = self._insert.end(begun.work, begun.future)
        except asyncio.CancelledError:
            response = STOPPING
        except Exception as error:
            response = self._problems.response(error, begun.prepared.scope)
        return response.adding(begun.prepared.added)


class PreparedStream(NamedTuple):
    """A stream that a client may open."""

    opening: Opening
    added: list[Header]  # to the response


class DirectStream:
    """Opens streams."""

    def __init__(
        self, broker: Broker, stream: Stream, cors: CORS, open: Open, navigates: Callable[[Scope], bool]
    ) -> None:
        """``navigates`` says whether a request is for a page of the front-end that has this path, too."""
        self._broker = broker
        self._stream = stream
        self._cors = cors
        self._open = open
        self._navigates = navigates

    def prepare(self, scope: Scope) -> PreparedStream | None:
        """Returns None if the route must answer the request. Nothing was done then."""
        if not self._broker.running or (self._open.restricts and not self._open.is_local(scope)):
            return None
        try:
            opening = None if self._navigates(scope) else self._stream.prepare(scope)
        except Exception:  # the route meets it again, and responds
            return None
        return None if opening is None else PreparedStream(opening, self._cors.headers(scope))

    def connect(self, prepared: PreparedStream, handover: Handover) -> None:
        self._stream.connect(prepared.opening, handover, prepared.added)


class Direct(NamedTuple):
    """What is answered without ASGI."""

    insert: DirectInsert
    stream: DirectStream
