"""The SQL of a writing transaction on SQLite, and of reading records."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from broker.records import Record
from broker.store.base import Checkpoint
from broker.store.tables import Counters, Ending, EventValues, UsageValues
from broker.store.users import COLUMNS, user_of, user_values
from broker.users import User

# How many rows one statement has. Many rows are divided into portions of 512 rows, then into portions of 128 rows, and
# the rows that are left, fewer than 128, are one portion. So the number of different statements is limited, and they
# stay prepared. SQLite allows at most 32,766 values in one statement.
_ROWS = (512, 128)
# The times of the earliest pending record and of the earliest ending.
_NEXT = "(SELECT min(due_us) FROM pending), (SELECT min(until_us) FROM events WHERE until_us IS NOT NULL)"
_BEGIN = f"""
    SELECT last_number, head, total_bytes, event_names, reserved_bytes, removals, removals_floor, rights, {_NEXT}
    FROM state
"""  # noqa: S608 (constants only)
NEXT_DUE = f"SELECT {_NEXT}"

_T = TypeVar("_T")

RECORD_COLUMNS = """
    r.number, r.uuid, r.event, r.user, r.timestamp, r.due_us, r.log_only, r.inserted_us, CAST(r.data AS BLOB),
    p.position, p.published_us, c.number IS NOT NULL, (SELECT epoch FROM epochs WHERE ended IS NULL),
    e.until, e.until_us, e.ends, c.reason
"""
_JOINS = """
    LEFT JOIN cancellations c ON c.number = r.number LEFT JOIN endings e ON e.number = r.number
"""
RECORD_TABLES = f"records r LEFT JOIN publications p ON p.number = r.number {_JOINS}"
# The same for published records only, which are looked up by their positions.
PUBLISHED_TABLES = f"publications p JOIN records r ON r.number = p.number {_JOINS}"


def record_of(row: Sequence[Any]) -> Record:
    """Returns the record in a row of RECORD_COLUMNS."""
    number, uuid, event, user, timestamp, due_us, log_only, inserted_us, data, *state = row
    position, published_us, cancelled, epoch, until, until_us, ends, reason = state
    return Record(
        UUID(bytes=uuid), event, data, user, timestamp, due_us, bool(log_only), inserted_us,
        bool(cancelled), position, published_us, number, epoch, until, until_us,
        None if ends is None else UUID(bytes=ends), reason,
    )  # fmt: skip


USER_COLUMNS = ", ".join("CAST(info AS BLOB)" if name == "info" else name for name in COLUMNS)


def earliest(due_us: int | None, until_us: int | None) -> int | None:
    """Returns the earlier of the two times in a row of NEXT_DUE, each of which may be missing."""
    return until_us if due_us is None else due_us if until_us is None else min(due_us, until_us)


def _pending_records(condition: str) -> str:
    return f"""
        SELECT {RECORD_COLUMNS} FROM (SELECT * FROM pending WHERE {condition} ORDER BY due_us, number LIMIT ?) w
        JOIN records r ON r.number = w.number LEFT JOIN publications p ON p.number = r.number {_JOINS}
        ORDER BY w.due_us, w.number"""  # noqa: S608 (constants only)


PENDING = _pending_records("(due_us, number) > (?, ?)")  # those after a pair of due time and number
_DUE = _pending_records("due_us <= ?")

# The version of each event that had state at a position: those of the checkpoint before it, and those that were
# published since, of which the newest of each event counts. ``max`` makes the bare column ``number`` that of the same
# row (SQLite, "Bare columns in an aggregate query"). CROSS JOIN keeps the order of the tables.
STATE_AT = """
    WITH base AS MATERIALIZED (
        SELECT position, latest FROM checkpoints WHERE position < :position ORDER BY position DESC LIMIT 1
    ), changed (position) AS (
        SELECT value FROM base, json_each(latest) UNION ALL
        SELECT position FROM publications
        WHERE position > coalesce((SELECT position FROM base), 0) AND position <= :position
    ), newest AS (
        SELECT r.event, max(p.position) AS position, r.number FROM changed c
        CROSS JOIN publications p ON p.position = c.position CROSS JOIN records r ON r.number = p.number
        GROUP BY r.event
    )
    SELECT n.event, n.position, n.number FROM newest n CROSS JOIN records r ON r.number = n.number
    WHERE r.data != 'null'
"""
# It has no row if nothing was published at this position: a fail-over may just have lost it.
CHECKPOINT = f"""
    SELECT (SELECT epoch FROM epochs WHERE ended IS NULL), :position, count(*),
           (SELECT min(published_us) FROM publications WHERE position <= :position
            AND position > coalesce((SELECT max(position) FROM checkpoints WHERE position < :position), 0)),
           json_group_array(position)
    FROM ({STATE_AT}) HAVING EXISTS (SELECT 1 FROM publications WHERE position = :position)
"""  # noqa: S608 (constants only)
# The current epoch, and the highest position that was published at or before a time. It is searched for after the
# newest checkpoint, and then in the last interval between two checkpoints that has a record of such a time.
HEAD_AT = """
    WITH newest AS (SELECT coalesce(max(position), 0) AS position FROM checkpoints),
    bounds AS (SELECT max(position) AS last FROM checkpoints WHERE earliest_us <= :time)
    SELECT epoch, coalesce(
        (SELECT max(position) FROM publications
         WHERE position > (SELECT position FROM newest) AND published_us <= :time),
        (SELECT max(position) FROM publications
         WHERE position <= (SELECT last FROM bounds) AND published_us <= :time AND position > coalesce(
            (SELECT max(position) FROM checkpoints WHERE position < (SELECT last FROM bounds)), 0)),
        0)
    FROM epochs WHERE ended IS NULL
"""
# The events that have state now, and those that get one from what is pending. What is due last decides.
PLANNED = """
    WITH planned AS (
        SELECT r.event, w.number,
               row_number() OVER (PARTITION BY r.event ORDER BY w.due_us DESC, w.number DESC) AS place
        FROM pending w CROSS JOIN records r ON r.number = w.number
        WHERE :pending AND w.due_us <= :time AND (:user IS NULL OR r.user = :user)
    )
    SELECT event, l.position, p.number FROM events l JOIN publications p ON p.position = l.position
    WHERE NOT removed AND (until_us IS NULL OR until_us > :time) AND event NOT IN (SELECT event FROM planned)
    UNION ALL
    SELECT n.event, NULL, n.number FROM planned n JOIN records r ON r.number = n.number
    LEFT JOIN endings e ON e.number = n.number
    WHERE place = 1 AND r.data != 'null' AND (until_us IS NULL OR until_us > :time)
"""
# In the order of the list: CROSS JOIN keeps it, and sorting would read all records before the first one is returned.
RECORDS_OF = f"""
    SELECT {RECORD_COLUMNS} FROM json_each(?) l CROSS JOIN records r ON r.number = l.value
    LEFT JOIN publications p ON p.number = r.number {_JOINS}
"""  # noqa: S608 (constants only)


class SQLiteTables:
    """Implements ``tables.Tables``, which says what the methods do."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def counters(self) -> Counters:
        return Counters(*self._db.execute(_BEGIN).fetchone()[:-2])

    def begin(self) -> tuple[Counters, int | None]:
        *counters, due_us, until_us = self._db.execute(_BEGIN).fetchone()
        return Counters(*counters), earliest(due_us, until_us)

    def epochs(self) -> dict[str, int | None]:
        return dict(self._db.execute("SELECT epoch, ended FROM epochs"))

    def next_due(self) -> int | None:
        return earliest(*self._db.execute(NEXT_DUE).fetchone())

    def due(self, now_us: int, records_max: int, bytes_max: int) -> Iterable[Record]:
        size = 0
        for row in self._db.execute(_DUE, (now_us, records_max)):
            record = record_of(row)
            yield record
            size += len(record.data)
            if size > bytes_max:
                return

    def endings(self, now_us: int) -> Iterable[Ending]:
        for until_us, number, position, event, uuid, user, until in self._db.execute(
            """SELECT l.until_us, r.number, l.position, l.event, r.uuid, r.user, e.until FROM events l
               JOIN publications p ON p.position = l.position JOIN records r ON r.number = p.number
               JOIN endings e ON e.number = r.number WHERE l.until_us <= ?""",
            (now_us,),
        ):
            yield Ending(until_us, number, position, event, UUID(bytes=uuid), user, until)

    def events(self, names: Sequence[str]) -> Iterable[EventValues]:
        for some in _portions(names):
            yield from self._db.execute(
                f"""SELECT event, position, bytes, pending, reserved, removed, until_us, falsy, owner
                    FROM events WHERE event IN ({_marks(len(some))})""",  # noqa: S608 (placeholders only)
                some,
            )

    def record_at(self, position: int) -> Record | None:
        row = self._db.execute(
            f"SELECT {RECORD_COLUMNS} FROM {PUBLISHED_TABLES} WHERE p.position = ?",  # noqa: S608 (constants only)
            (position,),
        ).fetchone()
        return None if row is None else record_of(row)

    def records(self, uuids: Sequence[UUID]) -> Iterable[Record]:
        for some in _portions([uuid.bytes for uuid in uuids]):
            rows = self._db.execute(
                f"SELECT {RECORD_COLUMNS} FROM {RECORD_TABLES} WHERE r.uuid IN ({_marks(len(some))})",  # noqa: S608
                some,
            )
            yield from map(record_of, rows)

    def users(self, ids: Iterable[str]) -> Iterable[User]:
        return self._users("id", ids)

    def users_named(self, keys: Iterable[str]) -> Iterable[User]:
        return self._users("username_key", keys)

    def _users(self, column: str, values: Iterable[str]) -> Iterable[User]:
        for some in _portions(list(values)):
            rows = self._db.execute(
                f"SELECT {USER_COLUMNS} FROM users WHERE {column} IN ({_marks(len(some))})",  # noqa: S608 (constants)
                some,
            )
            yield from map(user_of, rows)

    def put_user(self, user: User) -> None:
        assignments = ", ".join(f"{name} = ?" for name in COLUMNS)
        self._db.execute(f"UPDATE users SET {assignments} WHERE id = ?", (*user_values(user), user.id))  # noqa: S608

    def has_user(self, key: str, erased: str) -> bool:
        return bool(self._db.execute("SELECT 1 FROM users WHERE username_key IN (?, ?)", (key, erased)).fetchone())

    def add_user(self, user: User, now_us: int) -> None:
        self._db.execute(
            f"INSERT INTO users ({', '.join(COLUMNS)}, created_us) VALUES ({_marks(len(COLUMNS) + 1)})",  # noqa: S608
            (*user_values(user), now_us),
        )

    def add_records(self, values: Sequence[Any]) -> None:
        values = list(values)
        values[1::9] = [uuid.bytes for uuid in values[1::9]]
        self._write("INSERT INTO records", 9, values)

    def add_publications(self, values: Sequence[Any]) -> None:
        self._write("INSERT INTO publications", 4, values)

    def add_pending(self, values: Sequence[Any]) -> None:
        self._write("INSERT INTO pending", 4, values)

    def add_endings(self, values: Sequence[Any]) -> None:
        values = list(values)
        values[3::4] = [None if uuid is None else uuid.bytes for uuid in values[3::4]]
        self._write("INSERT INTO endings", 4, values)

    def add_cancellations(self, values: Sequence[Any]) -> None:
        self._write("INSERT INTO cancellations", 4, values)

    def remove_pending(self, pending: Sequence[tuple[int, int]]) -> None:
        self._db.executemany("DELETE FROM pending WHERE due_us = ? AND number = ?", pending)

    def largest_pending(self, names: Sequence[str]) -> Iterable[tuple[str, int]]:
        for some in _portions(names):
            yield from self._db.execute(
                f"SELECT event, max(size) FROM pending WHERE event IN ({_marks(len(some))}) GROUP BY event",  # noqa: S608
                some,
            )

    def put_events(self, values: Sequence[Any]) -> None:
        self._write("REPLACE INTO events", 9, values)

    def usage(self, users: Sequence[str]) -> Iterable[UsageValues]:
        for some in _portions(users):
            yield from self._db.execute(
                f"SELECT user, names, bytes, pending FROM usage WHERE user IN ({_marks(len(some))})",  # noqa: S608
                some,
            )

    def add_usage(self, values: Sequence[Any]) -> None:
        self._write(
            "INSERT INTO usage", 4, values,
            """ON CONFLICT (user) DO UPDATE SET names = names + excluded.names, bytes = bytes + excluded.bytes,
               pending = pending + excluded.pending""",
        )  # fmt: skip

    def remove_events(self, names: Sequence[str]) -> None:
        self._db.executemany("DELETE FROM events WHERE event = ?", [(name,) for name in names])

    def drop_removals(self, count: int) -> int:
        (floor,) = self._db.execute(
            "SELECT position FROM events WHERE removed AND NOT pending ORDER BY position LIMIT 1 OFFSET ?", (count - 1,)
        ).fetchone() or (0,)
        self._db.execute("DELETE FROM events WHERE removed AND NOT pending AND position <= ?", (floor,))
        return int(floor)

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        self._db.execute("INSERT OR IGNORE INTO checkpoints VALUES (?, ?, ?, ?)", checkpoint)

    def put_counters(self, counters: Counters) -> None:
        self._db.execute(
            """UPDATE state SET last_number = ?, head = ?, total_bytes = ?, event_names = ?, reserved_bytes = ?,
               removals = ?, removals_floor = ?, rights = ?""",
            counters,
        )

    def _write(self, insert: str, columns: int, values: Sequence[Any], conflict: str = "") -> None:
        """Inserts many rows with each statement, so that there are few statements. Each statement releases the GIL, and
        to get it back, this thread may have to wait as long as the event loop is busy."""
        row = f"({_marks(columns)})"
        for some in _portions(values, columns):
            self._db.execute(f"{insert} VALUES {','.join([row] * (len(some) // columns))} {conflict}", some)


def _portions(values: Sequence[_T], columns: int = 1) -> Iterable[Sequence[_T]]:
    """Divides the values into portions, each with as many rows as one statement has."""
    start = 0
    for rows in _ROWS:
        size = rows * columns
        while len(values) - start >= size:
            yield values[start : start + size]
            start += size
    if start < len(values):
        yield values[start:]


def _marks(count: int) -> str:
    """Returns the placeholders for this many values."""
    return ",".join("?" * count)
