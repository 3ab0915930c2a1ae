"""``GET /schema/{event}`` and ``GET /types.d.ts``: the types of the data, as JSON Schema and as TypeScript."""

from __future__ import annotations

import asyncio
import hashlib
import re

import msgspec
from starlette.types import Receive, Scope, Send

from broker.addresses import client_key
from broker.broker import Broker
from broker.errors import BadRequest, Unavailable
from broker.names import Filter
from broker.records import EventId
from broker.schema import SAMPLES_MAX
from broker.settings import KIB
from broker.users import Actor
from broker.web.credentials import reader
from broker.web.requests import Header, Parameters, address, event_of, is_known

_SCHEMA = b"application/schema+json"
_TEXT = b"text/plain; charset=utf-8"  # so that a browser shows it
_HEADERS: tuple[Header, ...] = ((b"cache-control", b"no-store"), (b"vary", b"Authorization, Cookie"))
_PARAMETERS = Parameters("versions", mistaken={"versions": ("version", "limit", "count", "samples", "history")})
_NUMBER = re.compile(r"[1-9][0-9]?\Z")
_PORTION_BYTES = 64 * KIB


class Types:
    """The two endpoints."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def schema(self, scope: Scope, receive: Receive, send: Send) -> None:
        actor = (await reader(scope, self._broker)).actor
        name = event_of(scope)
        filter = Filter.parse([name], patterns_max=1)
        for exact in filter.names:
            self._broker.demand("read", exact, actor)
        versions = _versions(_PARAMETERS.read(scope))
        if versions > 1 and not filter.names:
            raise BadRequest("versions: it is for one event; for a prefix, the newest version of each event counts")
        view = self._broker.access.view_of(actor)
        if await self._unchanged(scope, send, view):
            return
        event_id, schema = await self._broker.types.schema(filter, name, actor, versions, self._client(scope))
        await self._respond(send, _headers(event_id, view), _SCHEMA, schema, actor)

    async def declarations(self, scope: Scope, receive: Receive, send: Send) -> None:
        actor = (await reader(scope, self._broker)).actor
        view = self._broker.access.view_of(actor)
        if not await self._unchanged(scope, send, view):
            event_id, text = await self._broker.types.declarations(actor, self._client(scope))
            await self._respond(send, _headers(event_id, view), _TEXT, text, actor)

    def _client(self, scope: Scope) -> str:
        return "" if self._broker.settings.trusts(address(scope)) else client_key(address(scope))

    async def _unchanged(self, scope: Scope, send: Send, view: tuple[object, ...]) -> bool:
        """Responds with 304 if the client has the response as of now. Returns whether it did."""
        event_id = self._broker.state_id()
        if not is_known(scope, _tag(event_id, view)):
            return False
        await send({"type": "http.response.start", "status": 304, "headers": _headers(event_id, view)})
        await send({"type": "http.response.body"})
        return True

    async def _respond(self, send: Send, headers: list[Header], media: bytes, body: bytes, actor: Actor) -> None:
        """Sends the body in portions, so that a slow client does not keep all of it in memory. Raises Unauthorized if
        the reader's token becomes invalid meanwhile."""
        headers = [*headers, (b"content-type", media), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(body), _PORTION_BYTES):
            portion = body[start : start + _PORTION_BYTES]
            self._broker.reads.check(actor)
            try:
                async with asyncio.timeout(self._broker.settings.subscriber_stall_s):
                    await send({"type": "http.response.body", "body": portion, "more_body": True})
            except TimeoutError:
                raise Unavailable("the client does not read the response") from None  # this closes the connection
        await send({"type": "http.response.body"})


def _headers(event_id: EventId, view: tuple[object, ...]) -> list[Header]:
    return [*_HEADERS, (b"etag", _tag(event_id, view)), (b"last-event-id", str(event_id).encode())]


def _tag(event_id: EventId, view: tuple[object, ...]) -> bytes:
    """Returns the ``ETag``. For one URL, the response depends on the state, and on what the reader may read."""
    if not view:
        return b'"%b"' % str(event_id).encode()
    digest = hashlib.sha256(msgspec.json.encode((event_id, view))).hexdigest()[:32]
    return b'"%b"' % digest.encode()


def _versions(pairs: list[tuple[str, str]]) -> int:
    values = [value for _, value in pairs] or ["1"]
    if len(values) > 1 or not _NUMBER.match(values[0]) or int(values[0]) > SAMPLES_MAX:
        raise BadRequest(f"versions: expected one number from 1 to {SAMPLES_MAX}")
    return int(values[0])
