"""``GET /pending``: the records whose time has not come yet, whole or in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.types import Receive, Scope, Send

from broker.broker import Broker
from broker.names import Filter
from broker.records import Record, encode_record, parse_uuid
from broker.settings import MIB
from broker.web.credentials import caller
from broker.web.pages import next_page, parse_limit, respond_array
from broker.web.requests import NO_STORE, Header, Parameters

_PARAMETERS = Parameters(
    "event", "limit", "after",
    mistaken={
        "event": ("events", "topic", "topics", "channel", "channels", "filter", "filters"),
        "limit": ("count", "size", "pagesize", "perpage", "top"),
        "after": ("cursor", "offset", "page", "since", "skip", "start"),
    },
)  # fmt: skip
# A page ends before ``limit`` when its data exceeds this, because it is in memory as a whole.
_PAGE_BYTES = 4 * MIB


class Pending:
    """The endpoint. Without a limit the response is written portion by portion."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def read(self, scope: Scope, receive: Receive, send: Send) -> None:
        credential = await caller(scope, self._broker)
        pairs = _PARAMETERS.read(scope)
        patterns, limit, after = [], None, None
        for name, value in pairs:
            if name == "event":
                patterns.append(value)
            elif name == "limit":
                limit = parse_limit(value)
            else:
                after = parse_uuid(value, "after")
        filter = Filter.parse(patterns, self._broker.settings.filters_max)
        portions = await self._broker.reads.pending(filter, after, credential.actor)
        headers: list[Header] = [*NO_STORE]
        if limit is not None:
            records, more = await _page(portions, limit)
            if more:
                kept: list[tuple[str, object]] = [pair for pair in pairs if pair[0] != "after"]
                headers.append(next_page([*kept, ("after", records[-1].uuid)]))
            portions = _one(records)
        encoded = ([encode_record(record) for record in portion] async for portion in portions)
        await respond_array(scope, send, headers, encoded)


async def _page(portions: AsyncIterator[list[Record]], limit: int) -> tuple[list[Record], bool]:
    """Returns the first records, and whether others follow."""
    records: list[Record] = []
    size = 0
    async for portion in portions:
        for record in portion:
            if len(records) == limit or size >= _PAGE_BYTES:
                return records, True
            records.append(record)
            size += len(record.data)
    return records, False


async def _one(records: list[Record]) -> AsyncIterator[list[Record]]:
    if records:
        yield records
