"""What ``broker move`` moves: the tables of a log, which are the same on SQLite and PostgreSQL but for a few names."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import NamedTuple

from broker.errors import SettingsError
from broker.store.sqlite.file import MIGRATIONS
from broker.store.tables import Counters

AGAIN = "run the same `broker move` command again; it checks what was done, and finishes the rest"

# The tables whose rows are copied, in an order in which no row refers to a row of a later table. The content of
# ``epochs`` and ``state`` is in Content.
_TABLES = ("users", "records", "publications", "cancellations", "endings", "pending", "events", "usage")


def empty_log(version: int = MIGRATIONS.newest) -> contextlib.closing[sqlite3.Connection]:
    """Returns an empty log in memory, with this version of SQLite's schema."""
    log = sqlite3.connect(":memory:")
    for script in MIGRATIONS.upto(version):
        log.executescript(script)
    return contextlib.closing(log)


# The columns of each table. They are the same on PostgreSQL, but for a few names.
with empty_log() as _log:
    COPIED = {table: [name for _, name, *_ in _log.execute(f"PRAGMA table_info({table})")] for table in _TABLES}


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


class Signing(NamedTuple):
    """What signs the tokens."""

    secret: str | None  # None: the server may have been given a secret as a setting
    salt: str


class Mark(NamedTuple):
    """What a log's ``state`` says about a move. A log that has a value in ``moved`` is read-only."""

    moved: str | None  # where the log moves to, or has moved to; None: it does not move
    arrived: bool  # whether it is known that the log is there


class NotCommitted(SettingsError):
    """The target's commit failed, and it is certain that nothing of the log is in the target."""
