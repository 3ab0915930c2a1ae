"""Responses that are arrays of records, as a whole or in pages."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from urllib.parse import urlencode

from starlette.types import Scope, Send

from broker.errors import BadRequest, Unavailable
from broker.web.requests import JSON, NDJSON, Header, header

_LIMIT = re.compile(r"[1-9][0-9]{0,3}\Z")
_LIMIT_MAX = 1_000


def parse_limit(value: str) -> int:
    """Returns how many records a page has at most. Raises BadRequest."""
    if not _LIMIT.match(value) or int(value) > _LIMIT_MAX:
        raise BadRequest(f"limit: expected 1 to {_LIMIT_MAX}")
    return int(value)


def next_page(parameters: Sequence[tuple[str, object]]) -> Header:
    """Returns the header ``Link`` (RFC 8288). The URL is relative to the one that was requested, so it is right also
    behind a proxy that removes a prefix of the path."""
    return b"link", f'<?{urlencode(parameters, safe="/*:")}>; rel="next"'.encode()


def array_type(scope: Scope) -> bytes:
    """Returns the media type of the response: lines if the client accepts them, otherwise an array."""
    return NDJSON if NDJSON.decode() in (header(scope, b"accept") or "").lower() else JSON


async def respond_array(
    scope: Scope, send: Send, headers: Iterable[Header], portions: AsyncIterator[list[bytes]],
    stall_s: float | None = None,
) -> None:  # fmt: skip
    """Writes the JSON of records, portion by portion, so that the size of the response does not matter to the memory.
    If the client takes longer than ``stall_s`` for one portion, its connection is closed.

    The first portion is read before the response begins. So if the store is unreachable, the response can still be a
    503. Every other portion is read when the connection has accepted the one before it, because the reader's right may
    end while the client reads slowly."""
    portion = await anext(portions, None)
    media = array_type(scope)
    start_headers = [*headers, (b"content-type", media)]
    await send({"type": "http.response.start", "status": 200, "headers": start_headers})
    if scope["method"] == "HEAD":
        await send({"type": "http.response.body"})
        return
    before, between, end = (b"", b"\n", b"\n") if media == NDJSON else (b"[", b",\n", b"]\n")
    while portion is not None:
        body = before + between.join(portion)
        try:
            async with asyncio.timeout(stall_s):
                await send({"type": "http.response.body", "body": body, "more_body": True})
                # The server waits before each piece, and so before this one, until it has passed on the earlier ones.
                await send({"type": "http.response.body", "body": b"", "more_body": True})
        except TimeoutError:
            raise Unavailable("the client does not read the response") from None  # this closes the connection
        before = between
        portion = await anext(portions, None)
    if before != between:  # nothing was written: the response is an empty array, or has no line
        end = b"" if media == NDJSON else before + end
    await send({"type": "http.response.body", "body": end})
