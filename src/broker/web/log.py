"""``GET /collections/{event}``: the log of an event, whole or in pages."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from starlette.types import Receive, Scope, Send

from broker.broker import Broker
from broker.errors import BadRequest
from broker.records import encode_record, parse_uuid
from broker.web.credentials import COOKIE, caller
from broker.web.pages import next_page, parse_limit, respond_array
from broker.web.requests import NO_STORE, Header, Parameters, event_of

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
    """The log of one event."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def read(self, scope: Scope, receive: Receive, send: Send) -> None:
        credential = await caller(scope, self._broker, COOKIE)
        event = event_of(scope)
        query = _parse(_PARAMETERS.read(scope))
        page, portions = await self._broker.reads.log_page(
            event, query.after, query.limit, query.descending, credential.actor
        )
        headers: list[Header] = [*NO_STORE]
        if page.more:
            order = "desc" if query.descending else "asc"
            headers.append(next_page([("limit", query.limit), ("after", page.last_uuid), ("order", order)]))
        encoded = ([encode_record(record) for record in portion] async for portion in portions)
        await respond_array(scope, send, headers, encoded)


def _parse(pairs: list[tuple[str, str]]) -> _Query:
    limit, after, descending = None, None, False
    for name, value in pairs:
        if name == "limit":
            limit = parse_limit(value)
        elif name == "after":
            after = parse_uuid(value, "after")
        elif value in ("asc", "desc"):
            descending = value == "desc"
        else:
            raise BadRequest("order: expected asc (oldest first) or desc")
    return _Query(limit, after, descending)
