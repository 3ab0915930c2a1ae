"""``GET /collections/{event}``: the log of an event, whole or in pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes, urlencode
from uuid import UUID

from starlette.types import Receive, Scope, Send

from broker.broker import Broker
from broker.errors import BadRequest
from broker.records import encode_record, parse_uuid
from broker.web.requests import JSON, NDJSON, NO_STORE, Header, Parameters, caller, header

_LIMIT = re.compile(r"[1-9][0-9]{0,3}\Z")
_LIMIT_MAX = 1_000
_PARAMETERS = Parameters(
    "limit", "after", "order",
    mistaken={
        "limit": ("count", "size", "pagesize", "perpage", "top"),
        "after": ("cursor", "offset", "page", "since", "skip", "start"),
        "order": ("sort", "sortby", "direction", "reverse"),
    },
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Query:
    limit: int | None = None
    after: UUID | None = None
    descending: bool = False


class Log:
    """The log of one event. The response is written portion by portion, so its size does not matter to the memory."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def read(self, scope: Scope, receive: Receive, send: Send) -> None:
        await caller(scope, self._broker)
        event = _event(scope)
        query = _parse(_PARAMETERS.read(scope))
        page, portions = await self._broker.log_page(event, query.after, query.limit, query.descending)
        # The first portion is read before the response begins: if the store is unreachable, it can still be a 503.
        portion = await anext(portions, None)
        headers: list[Header] = [*NO_STORE]
        if page.more:
            headers.append((b"link", _next(query, page.last_uuid)))
        ndjson = NDJSON.decode() in (header(scope, b"accept") or "").lower()
        headers.append((b"content-type", NDJSON if ndjson else JSON))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body"})
            return
        before, between, end = (b"", b"\n", b"\n") if ndjson else (b"[", b",\n", b"]\n")
        while portion is not None:
            body = before + between.join(encode_record(record) for record in portion)
            await send({"type": "http.response.body", "body": body, "more_body": True})
            before = between
            portion = await anext(portions, None)
        if before != between:  # nothing was written: the response is an empty array, or has no line
            end = b"" if ndjson else before + end
        await send({"type": "http.response.body", "body": end})


def _event(scope: Scope) -> str:
    event: str = scope["path_params"]["event"]
    if "\ufffd" in event:  # the server puts this character where the bytes were not UTF-8; it may also have been sent
        try:
            unquote_to_bytes(scope.get("raw_path") or b"").decode()
        except UnicodeDecodeError:
            raise BadRequest("event: the name is not percent-encoded UTF-8") from None
    return event


def _parse(pairs: list[tuple[str, str]]) -> _Query:
    limit, after, descending = None, None, False
    for name, value in pairs:
        if name == "limit":
            if not _LIMIT.match(value) or int(value) > _LIMIT_MAX:
                raise BadRequest(f"limit: expected 1 to {_LIMIT_MAX}")
            limit = int(value)
        elif name == "after":
            after = parse_uuid(value)
        elif value in ("asc", "desc"):
            descending = value == "desc"
        else:
            raise BadRequest("order: expected asc (oldest first) or desc")
    return _Query(limit, after, descending)


def _next(query: _Query, last: UUID | None) -> bytes:
    """The value of the ``Link`` header (RFC 8288). The URL is relative to the one that was requested, so it is right
    also behind a proxy that removes a prefix of the path."""
    parameters = urlencode({"limit": query.limit, "after": last, "order": "desc" if query.descending else "asc"})
    return f'<?{parameters}>; rel="next"'.encode()
