"""What ``broker move`` moves: the tables of a log, which are the same on SQLite and PostgreSQL but for a few names."""

from __future__ import annotations

from typing import NamedTuple

from broker.errors import SettingsError
from broker.store.tables import Counters

AGAIN = "run the same `broker move` command again; it checks what was done, and finishes the rest"

# The columns of each table, with PostgreSQL's types. The tables are in an order in which no row refers to a row of a
# later table. Rows are passed on in SQLite's form, in which a uuid is 16 bytes. The content of ``epochs`` and ``state``
# is in Content.
COPIED: dict[str, dict[str, str]] = {
    "users": {
        "id": "text", "username": "text", "username_key": "text", "info": "text", "password_hash": "text",
        "gen": "int8", "disabled": "bool", "created_us": "int8",
    },
    "records": {
        "number": "int8", "uuid": "uuid", "event": "text", "user": "text", "timestamp": "text", "due_us": "int8",
        "log_only": "bool", "inserted_us": "int8", "data": "text",
    },
    "publications": dict.fromkeys(("position", "number", "published_us", "total_bytes"), "int8"),
    "cancellations": {"number": "int8", "user": "text", "cancelled_us": "int8"},
    "endings": {"number": "int8", "until": "text", "until_us": "int8", "ends": "uuid"},
    "pending": dict.fromkeys(("due_us", "number"), "int8"),
    "events": {
        "event": "text", **dict.fromkeys(("position", "bytes", "pending", "reserved"), "int8"), "removed": "bool",
        "until_us": "int8",
    },
}  # fmt: skip


class Content(NamedTuple):
    """What must be the same in source and target when everything was copied."""

    rows: dict[str, int]  # how many rows each table has
    data_bytes: int
    counters: Counters
    epochs: dict[str, int | None]

    def continues(self, other: Content) -> bool:
        """Returns whether this is the log that ``other`` describes, unchanged or with later records. Epochs are random,
        so two logs do not have the same one by accident."""
        return (
            self.epochs.keys() >= other.epochs.keys()
            and self.counters.last_number >= other.counters.last_number
            and self.counters.head >= other.counters.head
        )


class Mark(NamedTuple):
    """What a log's ``state`` says about a move. A log that has a value in ``moved`` is read-only."""

    moved: str | None  # where the log moves to, or has moved to; None: it does not move
    arrived: bool  # whether it is known that the log is there


class NotCommitted(SettingsError):
    """The target's commit failed, and it is certain that nothing of the log is in the target."""
