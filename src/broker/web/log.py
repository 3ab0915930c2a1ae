"""``GET /collections/{event}``: an event's log, streamed, or in pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes, urlencode
from uuid import UUID

from starlette.types import Receive, Scope, Send

from broker.broker import Broker
from broker.errors import BadRequest
from broker.records import encode_record, parse_uuid
from broker.web.requests import Header, Parameters, caller, header

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
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await caller(scope, self._broker)
        event = _event(scope)
        asked = _parse(_PARAMETERS.read(scope))
        page, portions = await self._broker.log_page(event, asked.after, asked.limit, asked.descending)
        portion = await anext(portions, None)  # if the store is away, that can be said until the answer begins
        headers: list[Header] = [(b"cache-control", b"no-store")]
        if page.more:
            headers.append((b"link", _next(asked, page.last_uuid)))
        lines = "application/x-ndjson" in (header(scope, b"accept") or "").lower()
        content_type = b"application/x-ndjson" if lines else b"application/json"
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type), *headers]}
        )
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body"})
            return
        first, separator, last = (b"", b"\n", b"\n") if lines else (b"[", b",\n", b"]\n")
        while portion is not None:
            body = first + separator.join(encode_record(record) for record in portion)
            await send({"type": "http.response.body", "body": body, "more_body": True})
            first = separator
            portion = await anext(portions, None)
        if lines and page.last is None:
            last = b""  # no record, no line
        await send({"type": "http.response.body", "body": last if first == separator or lines else first + last})


def _event(scope: Scope) -> str:
    event: str = scope["path_params"]["event"]
    if "\ufffd" in event:  # what stands there may have been no UTF-8
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


def _next(asked: _Query, last: UUID | None) -> bytes:
    """RFC 8288; relative to the address that was asked for, so that it holds where a proxy takes a prefix away."""
    more = urlencode({"limit": asked.limit, "after": last, "order": "desc" if asked.descending else "asc"})
    return f'<?{more}>; rel="next"'.encode()
