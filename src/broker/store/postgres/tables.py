"""The SQL of a writing transaction on PostgreSQL, and of reading records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
from psycopg import Connection

from broker.records import Record
from broker.store.base import RECORD_BYTES
from broker.store.transaction import Counters, Due, EventRow
from broker.users import User, username_key

RECORD_COLUMNS = """
    r.uuid, r.event, convert_to(r.data, 'UTF8'), r.username, r.timestamp, r.due_us, r.log_only, r.inserted_us,
    c.number IS NOT NULL, p.position, p.published_us, r.number, (SELECT epoch FROM broker.epochs WHERE ended IS NULL)
"""
# One index lookup for each row. A plain join the planner, whose statistics lag behind a log that grows, may do by
# reading all of it; OFFSET 0 keeps it from joining in another way.
RECORD_JOINS = """
    LEFT JOIN LATERAL (SELECT * FROM broker.publications WHERE number = r.number OFFSET 0) p ON true
    LEFT JOIN broker.cancellations c ON c.number = r.number
"""
RECORD_OF = "CROSS JOIN LATERAL (SELECT * FROM broker.records WHERE number = p.number OFFSET 0) r"
SIZE = f"(octet_length(data) + {RECORD_BYTES})"
NEXT_DUE = "SELECT min(due_us) FROM broker.pending"

# What goes in as one JSON document: lists of a driver's own cost six times the time, most of it in Python.
_RECORD = {
    "number": "bigint", "uuid": "uuid", "event": "text", "username": "text", "timestamp": "text", "due_us": "bigint",
    "log_only": "boolean", "inserted_us": "bigint", "data": "text",
}  # fmt: skip
_PUBLICATION = dict.fromkeys(("position", "number", "published_us", "total_bytes"), "bigint")
_PENDING = dict.fromkeys(("due_us", "number"), "bigint")
_EVENT = {"event": "text", **dict.fromkeys(("position", "bytes", "pending", "reserved"), "bigint")}


class PostgresTables:
    """See ``transaction.Tables``. In a pipeline: what returns nothing does not wait for an answer."""

    def __init__(self, connection: Connection[Any], counters: Counters, next_due: int | None) -> None:
        """``counters`` and ``next_due``: as read under the lock."""
        self._db = connection
        self._counters = counters
        self._next_due: tuple[int | None] | None = (next_due,)

    def counters(self) -> Counters:
        return self._counters

    def next_due(self) -> int | None:
        first, self._next_due = self._next_due, None
        (due_us,) = self._db.execute(NEXT_DUE).fetchone() or (None,) if first is None else first
        return due_us

    def due(self, now_us: int, records_max: int, bytes_max: int) -> Iterable[Due]:
        return self._db.execute(
            f"""SELECT due_us, number, event, convert_to(data, 'UTF8') FROM (
                   SELECT p.due_us, p.number, r.event, r.data,
                       sum({SIZE}) OVER (ORDER BY p.due_us, p.number) - {SIZE} AS before
                   FROM (SELECT * FROM broker.pending WHERE due_us <= %s ORDER BY due_us, number LIMIT %s) p
                   {RECORD_OF}) AS due
               WHERE before < %s ORDER BY due_us, number""",  # noqa: S608 (constants only)
            (now_us, records_max, bytes_max),
            binary=True,
        )

    def events(self, names: Sequence[str]) -> Iterable[EventRow]:
        return self._db.execute(
            """SELECT event, position, bytes, pending, reserved FROM broker.events
               WHERE event IN (SELECT json_array_elements_text(%s::json))""",
            (_json(names),),
        )

    def records(self, uuids: Sequence[UUID]) -> Iterable[Record]:
        rows = self._db.execute(
            f"""SELECT {RECORD_COLUMNS} FROM json_array_elements_text(%s::json) AS given(uuid)
                CROSS JOIN LATERAL (SELECT * FROM broker.records WHERE uuid = given.uuid::uuid OFFSET 0) r
                {RECORD_JOINS}""",  # noqa: S608 (constants only)
            (_json(uuids),),
            binary=True,
        )
        return (Record(*row) for row in rows)

    def has_user(self, key: str) -> bool:
        return self._db.execute("SELECT 1 FROM broker.users WHERE username_key = %s", (key,)).fetchone() is not None

    def add_user(self, user: User, now_us: int) -> None:
        self._db.execute(
            "INSERT INTO broker.users VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            (user.id, user.username, username_key(user.username), user.info.decode(), user.password_hash, user.gen,
             user.disabled, now_us),
        )  # fmt: skip

    def add_records(self, values: Sequence[Any]) -> None:
        self._db.execute(f"INSERT INTO broker.records {_given(_RECORD)}", (_rows(_RECORD, values),))

    def add_publications(self, values: Sequence[Any]) -> None:
        self._db.execute(f"INSERT INTO broker.publications {_given(_PUBLICATION)}", (_rows(_PUBLICATION, values),))

    def add_pending(self, values: Sequence[Any]) -> None:
        self._db.execute(f"INSERT INTO broker.pending {_given(_PENDING)}", (_rows(_PENDING, values),))

    def add_cancellation(self, number: int, user: str, now_us: int) -> None:
        self._db.execute("INSERT INTO broker.cancellations VALUES (%s, %s, %s)", (number, user, now_us))

    def remove_pending(self, pending: Sequence[tuple[int, int]]) -> None:
        values = [value for pair in pending for value in pair]
        self._db.execute(
            f"DELETE FROM broker.pending WHERE (due_us, number) IN ({_given(_PENDING)})",  # noqa: S608 (constants only)
            (_rows(_PENDING, values),),
        )

    def put_events(self, values: Sequence[Any]) -> None:
        self._db.execute(
            f"""INSERT INTO broker.events {_given(_EVENT)} ON CONFLICT (event) DO UPDATE
                SET position = excluded.position, bytes = excluded.bytes,
                    pending = excluded.pending, reserved = excluded.reserved""",  # noqa: S608 (constants only)
            (_rows(_EVENT, values),),
        )

    def remove_events(self, names: Sequence[str]) -> None:
        self._db.execute(
            "DELETE FROM broker.events WHERE event IN (SELECT json_array_elements_text(%s::json))", (_json(names),)
        )

    def put_counters(self, counters: Counters) -> None:
        self._db.execute(
            """UPDATE broker.state SET last_number = %s, head = %s, total_bytes = %s, event_names = %s,
               reserved_bytes = %s""",
            counters,
        )


def _given(columns: dict[str, str]) -> str:
    """Selects the rows of a JSON document."""
    types = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    return f"SELECT * FROM json_to_recordset(%s::json) AS given({types})"  # noqa: S608 (constants only)


def _rows(columns: dict[str, str], values: Sequence[Any]) -> str:
    names, width = list(columns), len(columns)
    return _json([dict(zip(names, values[n : n + width], strict=True)) for n in range(0, len(values), width)])


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
