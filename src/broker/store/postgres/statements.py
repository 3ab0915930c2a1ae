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
# With these joins PostgreSQL makes one index look-up for each row. Its statistics lag behind a log that grows, so for a
# plain join the planner might decide to read the whole table. OFFSET 0 keeps the planner from turning the subquery into
# a plain join.
RECORD_JOINS = """
    LEFT JOIN LATERAL (SELECT * FROM broker.publications WHERE number = r.number OFFSET 0) p ON true
    LEFT JOIN broker.cancellations c ON c.number = r.number
"""
RECORD_OF = "CROSS JOIN LATERAL (SELECT * FROM broker.records WHERE number = p.number OFFSET 0) r"
SIZE = f"(octet_length(data) + {RECORD_BYTES})"
NEXT_DUE = "SELECT min(due_us) FROM broker.pending"

# The columns of the tables, and their types. Rows are sent as one JSON document. A parameter for each value, or the
# driver's own arrays, would take six times as long, most of it in Python.
_RECORD = {
    "number": "bigint", "uuid": "uuid", "event": "text", "username": "text", "timestamp": "text", "due_us": "bigint",
    "log_only": "boolean", "inserted_us": "bigint", "data": "text",
}  # fmt: skip
_PUBLICATION = dict.fromkeys(("position", "number", "published_us", "total_bytes"), "bigint")
_PENDING = dict.fromkeys(("due_us", "number"), "bigint")
_EVENT = {"event": "text", **dict.fromkeys(("position", "bytes", "pending", "reserved"), "bigint")}


class PostgresTables:
    """Implements ``transaction.Tables``, which says what the methods do. It works in a pipeline, so a statement that
    returns no rows does not wait for its response."""

    def __init__(self, connection: Connection[Any], counters: Counters, next_due: int | None) -> None:
        """``counters`` and ``next_due`` are the values that were read when the lock was taken. To read them again here
        would cost a round trip for each."""
        self._db = connection
        self._counters = counters
        # The value is correct only until something is written. So only the first call of ``next_due`` uses it, and
        # later calls ask the database.
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
            f"""SELECT {RECORD_COLUMNS} FROM json_array_elements_text(%s::json) AS listed(uuid)
                CROSS JOIN LATERAL (SELECT * FROM broker.records WHERE uuid = listed.uuid::uuid OFFSET 0) r
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
        self._db.execute(f"INSERT INTO broker.records {_rows_of(_RECORD)}", (_document(_RECORD, values),))

    def add_publications(self, values: Sequence[Any]) -> None:
        self._db.execute(
            f"INSERT INTO broker.publications {_rows_of(_PUBLICATION)}", (_document(_PUBLICATION, values),)
        )

    def add_pending(self, values: Sequence[Any]) -> None:
        self._db.execute(f"INSERT INTO broker.pending {_rows_of(_PENDING)}", (_document(_PENDING, values),))

    def add_cancellation(self, number: int, user: str, now_us: int) -> None:
        self._db.execute("INSERT INTO broker.cancellations VALUES (%s, %s, %s)", (number, user, now_us))

    def remove_pending(self, pending: Sequence[tuple[int, int]]) -> None:
        values = [value for pair in pending for value in pair]
        self._db.execute(
            f"DELETE FROM broker.pending WHERE (due_us, number) IN ({_rows_of(_PENDING)})",  # noqa: S608 (constants only)
            (_document(_PENDING, values),),
        )

    def put_events(self, values: Sequence[Any]) -> None:
        self._db.execute(
            f"""INSERT INTO broker.events {_rows_of(_EVENT)} ON CONFLICT (event) DO UPDATE
                SET position = excluded.position, bytes = excluded.bytes,
                    pending = excluded.pending, reserved = excluded.reserved""",  # noqa: S608 (constants only)
            (_document(_EVENT, values),),
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


def _rows_of(columns: dict[str, str]) -> str:
    """Returns a query for the rows of a JSON document, which is the only parameter of the query."""
    types = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    return f"SELECT * FROM json_to_recordset(%s::json) AS listed({types})"  # noqa: S608 (constants only)


def _document(columns: dict[str, str], values: Sequence[Any]) -> str:
    """Returns the JSON document of these rows. ``values`` has the values of the first row, then those of the second,
    and so on."""
    names, width = list(columns), len(columns)
    return _json([dict(zip(names, values[n : n + width], strict=True)) for n in range(0, len(values), width)])


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
