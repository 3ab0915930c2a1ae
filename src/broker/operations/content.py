"""The tables of a log as ``broker move`` moves them: the same on SQLite and PostgreSQL but for a few names."""

from __future__ import annotations

from typing import NamedTuple

from broker.errors import SettingsError
from broker.store.transaction import Counters

AGAIN = "type the same `broker move` again: it finds out how far this one came, and finishes"

# Each table's columns, in an order that keeps its references, with PostgreSQL's types. A row travels as SQLite has it:
# a uuid is 16 bytes. ``epochs`` and ``state`` are in Content.
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
    "pending": dict.fromkeys(("due_us", "number"), "int8"),
    "events": {"event": "text", **dict.fromkeys(("position", "bytes", "pending", "reserved"), "int8")},
}  # fmt: skip


class Content(NamedTuple):
    """What must be the same in the copy."""

    rows: dict[str, int]  # in each table
    data_bytes: int
    counters: Counters
    epochs: dict[str, int | None]

    def continues(self, other: Content) -> bool:
        """Whether this is the same log, as it was then or later: epochs are random."""
        return (
            self.epochs.keys() >= other.epochs.keys()
            and self.counters.last_number >= other.counters.last_number
            and self.counters.head >= other.counters.head
        )


class Mark(NamedTuple):
    """That a log has moved, in its ``state``."""

    moved: str | None  # where to
    arrived: bool  # known to be there


class NotCommitted(SettingsError):
    """Nothing was moved, and that is certain."""
