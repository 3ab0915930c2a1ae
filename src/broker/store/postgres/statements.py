"""The SQL of a writing transaction on PostgreSQL, and of reading records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
from psycopg import Connection

from broker.records import Record
from broker.store.base import RECORD_BYTES, Checkpoint
from broker.store.tables import Counters, Ending, EventValues, UsageValues
from broker.store.users import COLUMNS, user_of, user_values
from broker.users import User

RECORD_COLUMNS = """
    r.uuid, r.event, convert_to(r.data, 'UTF8'), r.username, r.timestamp, r.due_us, r.log_only, r.inserted_us,
    c.number IS NOT NULL, p.position, p.published_us, r.number, (SELECT label FROM broker.epochs WHERE ended IS NULL),
    e.until, e.until_us, e.ends, c.reason
"""
# With these joins PostgreSQL makes one index look-up for each row. Its statistics lag behind a log that grows, so for a
# plain join the planner might decide to read the whole table. OFFSET 0 keeps the planner from turning the subquery into
# a plain join.
_JOINS = """
    LEFT JOIN LATERAL (SELECT * FROM broker.cancellations WHERE number = r.number OFFSET 0) c ON true
    LEFT JOIN LATERAL (SELECT * FROM broker.endings WHERE number = r.number OFFSET 0) e ON true
"""
RECORD_JOINS = f"""
    LEFT JOIN LATERAL (SELECT * FROM broker.publications WHERE number = r.number OFFSET 0) p ON true {_JOINS}
"""  # noqa: S608 (constants only)
RECORD_OF = "CROSS JOIN LATERAL (SELECT * FROM broker.records WHERE number = p.number OFFSET 0) r"
# The same for published records only, which are looked up by their positions: p is a row of publications.
PUBLISHED_JOINS = f"{RECORD_OF} {_JOINS}"
# The length is compared first, because it is known without reading data that is stored outside of the row.
_IS_REMOVAL = "CASE WHEN octet_length(r.data) = 4 THEN r.data = 'null' ELSE false END"
SIZE = f"(octet_length(data) + {RECORD_BYTES})"
NEXT_DUE = """SELECT least((SELECT min(due_us) FROM broker.pending),
    (SELECT min(until_us) FROM broker.events WHERE until_us IS NOT NULL))"""

# The columns of the tables, and their types. Rows are sent as one JSON document. A parameter for each value, or the
# driver's own arrays, would take six times as long, most of it in Python.
_RECORD = {
    "number": "bigint", "uuid": "uuid", "event": "text", "username": "text", "timestamp": "text", "due_us": "bigint",
    "log_only": "boolean", "inserted_us": "bigint", "data": "text",
}  # fmt: skip
_PUBLICATION = dict.fromkeys(("position", "number", "published_us", "total_bytes"), "bigint")
_DUE = dict.fromkeys(("due_us", "number"), "bigint")
_PENDING = _DUE | {"event": "text", "size": "bigint"}
_ENDING = {"number": "bigint", "until": "text", "until_us": "bigint", "ends": "uuid"}
_CANCELLATION = {"number": "bigint", "username": "text", "cancelled_us": "bigint", "reason": "text"}
_EVENT = {
    "event": "text", **dict.fromkeys(("position", "bytes", "pending", "reserved"), "bigint"), "removed": "boolean",
    "until_us": "bigint", "falsy": "boolean", "owner": "text",
}  # fmt: skip
_USAGE = {"username": "text", **dict.fromkeys(("names", "bytes", "pending"), "bigint")}
USER_COLUMNS = ", ".join("convert_to(info, 'UTF8')" if name == "info" else name for name in COLUMNS)


# The pending records after a pair of due time and number.
PENDING = f"""
    SELECT {RECORD_COLUMNS} FROM (
        SELECT r.*, sum({SIZE}) OVER (ORDER BY p.due_us, p.number) - {SIZE} AS before
        FROM (SELECT * FROM broker.pending WHERE (due_us, number) > (%s, %s) ORDER BY due_us, number LIMIT %s) p
        {RECORD_OF}
    ) AS r {RECORD_JOINS} WHERE before < %s ORDER BY r.due_us, r.number
"""  # noqa: S608 (constants only)


# The version of each event that had state at a position: those of the checkpoint before it, and those that were
# published since, of which the newest of each event counts.
STATE_AT = f"""
    WITH base AS MATERIALIZED (
        SELECT position, latest FROM broker.checkpoints WHERE position < %(position)s ORDER BY position DESC LIMIT 1
    ), changed AS (
        SELECT listed::bigint AS position FROM base, json_array_elements_text(latest::json) AS listed UNION ALL
        SELECT position FROM broker.publications
        WHERE position > coalesce((SELECT position FROM base), 0) AND position <= %(position)s
    ), newest AS (
        SELECT DISTINCT ON (r.event) r.event, p.position, p.number, {_IS_REMOVAL} AS removal
        FROM changed c
        CROSS JOIN LATERAL (SELECT * FROM broker.publications WHERE position = c.position OFFSET 0) p {RECORD_OF}
        ORDER BY r.event, p.position DESC
    )
    SELECT event, position, number FROM newest WHERE NOT removal
"""  # noqa: S608 (constants only)
# It has no row if nothing was published at this position: a fail-over may just have lost it.
CHECKPOINT = f"""
    SELECT (SELECT label FROM broker.epochs WHERE ended IS NULL), %(position)s, count(*),
           (SELECT min(published_us) FROM broker.publications WHERE position <= %(position)s AND position > coalesce(
               (SELECT max(position) FROM broker.checkpoints WHERE position < %(position)s), 0)),
           coalesce(json_agg(position), '[]')::text
    FROM ({STATE_AT}) AS state HAVING EXISTS (SELECT 1 FROM broker.publications WHERE position = %(position)s)
"""  # noqa: S608 (constants only)
# The current epoch, and the highest position that was published at or before a time. It is searched for after the
# newest checkpoint, and then in the last interval between two checkpoints that has a record of such a time. OFFSET 0
# keeps the planner from searching the whole table backwards for one record of that time.
HEAD_AT = """
    WITH newest AS (SELECT coalesce(max(position), 0) AS position FROM broker.checkpoints),
    bounds AS (SELECT max(position) AS last FROM broker.checkpoints WHERE earliest_us <= %(time)s)
    SELECT label, coalesce(
        (SELECT max(position) FROM (
            SELECT * FROM broker.publications WHERE position > (SELECT position FROM newest) OFFSET 0
         ) AS tail WHERE published_us <= %(time)s),
        (SELECT max(position) FROM (
            SELECT * FROM broker.publications WHERE position <= (SELECT last FROM bounds) AND position > coalesce(
                (SELECT max(position) FROM broker.checkpoints WHERE position < (SELECT last FROM bounds)), 0) OFFSET 0
         ) AS interval WHERE published_us <= %(time)s),
        0)
    FROM broker.epochs WHERE ended IS NULL
"""
# The events that have state now, and those that get one from what is pending. What is due last decides.
PLANNED = f"""
    WITH planned AS (
        SELECT DISTINCT ON (r.event) r.event, r.number, {_IS_REMOVAL} AS removal
        FROM (SELECT * FROM broker.pending WHERE %(pending)s AND due_us <= %(time)s OFFSET 0) p {RECORD_OF}
        WHERE %(user)s::text IS NULL OR r.username = %(user)s
        ORDER BY r.event, r.due_us DESC, r.number DESC
    )
    SELECT event, l.position, p.number FROM broker.events l
    CROSS JOIN LATERAL (SELECT * FROM broker.publications WHERE position = l.position OFFSET 0) p
    WHERE NOT removed AND (until_us IS NULL OR until_us > %(time)s) AND event NOT IN (SELECT event FROM planned)
    UNION ALL
    SELECT n.event, NULL, n.number FROM planned n
    LEFT JOIN LATERAL (SELECT * FROM broker.endings WHERE number = n.number OFFSET 0) e ON true
    WHERE NOT removal AND (until_us IS NULL OR until_us > %(time)s)
"""  # noqa: S608 (constants only)
RECORDS_OF = f"""
    SELECT {RECORD_COLUMNS} FROM (
        SELECT r.*, place, sum({SIZE}) OVER (ORDER BY place) - {SIZE} AS before
        FROM json_array_elements_text(%s::json) WITH ORDINALITY AS p (number, place)
        CROSS JOIN LATERAL (SELECT * FROM broker.records WHERE number = p.number::bigint OFFSET 0) r
    ) AS r {RECORD_JOINS} WHERE before < %s ORDER BY place
"""  # noqa: S608 (constants only)


class PostgresTables:
    """Implements ``tables.Tables``, which says what the methods do. It works in a pipeline, so a statement that
    returns no rows does not wait for its response."""

    def __init__(self, connection: Connection[Any], counters: Counters, next_due: int | None) -> None:
        """``counters`` and ``next_due`` are the values that were read when the lock was taken. To read them again here
        would cost a round trip."""
        self._db = connection
        self._begun = counters, next_due

    def begin(self) -> tuple[Counters, int | None]:
        return self._begun

    def next_due(self) -> int | None:
        (due_us,) = self._db.execute(NEXT_DUE).fetchone() or (None,)
        return due_us

    def epochs(self) -> dict[str, int | None]:
        return dict(self._db.execute("SELECT label, ended FROM broker.epochs").fetchall())

    def due(self, now_us: int, records_max: int, bytes_max: int) -> Iterable[Record]:
        rows = self._db.execute(
            f"""SELECT {RECORD_COLUMNS} FROM (
                   SELECT r.*, sum({SIZE}) OVER (ORDER BY p.due_us, p.number) - {SIZE} AS before
                   FROM (SELECT * FROM broker.pending WHERE due_us <= %s ORDER BY due_us, number LIMIT %s) p
                   {RECORD_OF}) AS r {RECORD_JOINS}
               WHERE before < %s ORDER BY r.due_us, r.number""",  # noqa: S608 (constants only)
            (now_us, records_max, bytes_max),
            binary=True,
        )
        return (Record(*row) for row in rows)

    def endings(self, now_us: int) -> Iterable[Ending]:
        rows = self._db.execute(
            f"""SELECT l.until_us, r.number, l.position, l.event, r.uuid, r.username, e.until
               FROM (SELECT * FROM broker.events WHERE until_us <= %s OFFSET 0) l
               CROSS JOIN LATERAL (SELECT * FROM broker.publications WHERE position = l.position OFFSET 0) p
               {PUBLISHED_JOINS}""",  # noqa: S608 (constants only)
            (now_us,),
            binary=True,
        )
        return (Ending(*row) for row in rows)

    def events(self, names: Sequence[str]) -> Iterable[EventValues]:
        return self._db.execute(
            """SELECT event, position, bytes, pending, reserved, removed, until_us, falsy, owner FROM broker.events
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

    def record_at(self, position: int) -> Record | None:
        row = self._db.execute(
            f"""SELECT {RECORD_COLUMNS} FROM (SELECT * FROM broker.publications WHERE position = %s) p
                {PUBLISHED_JOINS}""",  # noqa: S608 (constants only)
            (position,),
            binary=True,
        ).fetchone()
        return None if row is None else Record(*row)

    def users(self, ids: Iterable[str]) -> Iterable[User]:
        return self._users("id", ids)

    def users_named(self, keys: Iterable[str]) -> Iterable[User]:
        return self._users("username_key", keys)

    def _users(self, column: str, values: Iterable[str]) -> Iterable[User]:
        rows = self._db.execute(
            f"""SELECT {USER_COLUMNS} FROM broker.users
                WHERE {column} IN (SELECT json_array_elements_text(%s::json))""",  # noqa: S608 (constants only)
            (_json(list(values)),),
        )
        return map(user_of, rows)

    def put_user(self, user: User) -> None:
        assignments = ", ".join(f"{name} = %s" for name in COLUMNS)
        self._db.execute(
            f"UPDATE broker.users SET {assignments} WHERE id = %s",  # noqa: S608 (constants only)
            (*user_values(user), user.id),
        )

    def has_user(self, key: str, erased: str) -> bool:
        select = "SELECT 1 FROM broker.users WHERE username_key IN (%s, %s)"
        return self._db.execute(select, (key, erased)).fetchone() is not None

    def add_user(self, user: User, now_us: int) -> None:
        marks = ", ".join(["%s"] * (len(COLUMNS) + 1))
        self._db.execute(
            f"INSERT INTO broker.users ({', '.join(COLUMNS)}, created_us) VALUES ({marks})",  # noqa: S608 (constants)
            (*user_values(user), now_us),
        )

    def add_records(self, values: Sequence[Any]) -> None:
        self._db.execute(f"INSERT INTO broker.records {_rows_of(_RECORD)}", (_document(_RECORD, values),))

    def add_publications(self, values: Sequence[Any]) -> None:
        self._db.execute(
            f"INSERT INTO broker.publications {_rows_of(_PUBLICATION)}", (_document(_PUBLICATION, values),)
        )

    def add_pending(self, values: Sequence[Any]) -> None:
        self._db.execute(f"INSERT INTO broker.pending {_rows_of(_PENDING)}", (_document(_PENDING, values),))

    def add_endings(self, values: Sequence[Any]) -> None:
        self._db.execute(f"INSERT INTO broker.endings {_rows_of(_ENDING)}", (_document(_ENDING, values),))

    def add_cancellations(self, values: Sequence[Any]) -> None:
        self._db.execute(
            f"INSERT INTO broker.cancellations {_rows_of(_CANCELLATION)}", (_document(_CANCELLATION, values),)
        )

    def remove_pending(self, pending: Sequence[tuple[int, int]]) -> None:
        values = [value for pair in pending for value in pair]
        self._db.execute(
            f"DELETE FROM broker.pending WHERE (due_us, number) IN ({_rows_of(_DUE)})",  # noqa: S608 (constants only)
            (_document(_DUE, values),),
        )

    def largest_pending(self, names: Sequence[str]) -> Iterable[tuple[str, int]]:
        return self._db.execute(
            """SELECT event, (SELECT size FROM broker.pending p WHERE p.event = l.event ORDER BY size DESC LIMIT 1)
               FROM json_array_elements_text(%s::json) AS l(event)""",
            (_json(names),),
        )

    def put_events(self, values: Sequence[Any]) -> None:
        self._db.execute(
            f"""INSERT INTO broker.events {_rows_of(_EVENT)} ON CONFLICT (event) DO UPDATE
                SET position = excluded.position, bytes = excluded.bytes, pending = excluded.pending,
                    reserved = excluded.reserved, removed = excluded.removed,
                    until_us = excluded.until_us, falsy = excluded.falsy,
                    owner = excluded.owner""",  # noqa: S608 (constants only)
            (_document(_EVENT, values),),
        )

    def usage(self, users: Sequence[str]) -> Iterable[UsageValues]:
        return self._db.execute(
            """SELECT username, names, bytes, pending FROM broker.usage
               WHERE username IN (SELECT json_array_elements_text(%s::json))""",
            (_json(users),),
        )

    def add_usage(self, values: Sequence[Any]) -> None:
        self._db.execute(
            f"""INSERT INTO broker.usage AS u {_rows_of(_USAGE)} ON CONFLICT (username) DO UPDATE
                SET names = u.names + excluded.names, bytes = u.bytes + excluded.bytes,
                    pending = u.pending + excluded.pending""",  # noqa: S608 (constants only)
            (_document(_USAGE, values),),
        )

    def remove_events(self, names: Sequence[str]) -> None:
        self._db.execute(
            "DELETE FROM broker.events WHERE event IN (SELECT json_array_elements_text(%s::json))", (_json(names),)
        )

    def drop_removals(self, count: int) -> int:
        (floor,) = self._db.execute(
            """SELECT position FROM broker.events WHERE removed AND pending = 0
               ORDER BY position LIMIT 1 OFFSET %s""",
            (count - 1,),
        ).fetchone() or (0,)
        self._db.execute("DELETE FROM broker.events WHERE removed AND pending = 0 AND position <= %s", (floor,))
        return int(floor)

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        self._db.execute("INSERT INTO broker.checkpoints VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING", checkpoint)

    def put_counters(self, counters: Counters) -> None:
        self._db.execute(
            """UPDATE broker.state SET last_number = %s, head = %s, total_bytes = %s, event_names = %s,
               reserved_bytes = %s, removals = %s, removals_floor = %s, rights = %s""",
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
