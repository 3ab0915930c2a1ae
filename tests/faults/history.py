"""What the clients of a run saw, and the log with which ``checker.py`` compares it."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import psycopg


@dataclass
class Insert:
    """One record that a publisher wanted to insert; sent again, with its uuid, until it was answered."""

    uuid: str
    event: str
    due_us: int | None = None  # later; None: now
    acknowledged: bool = False
    position: int | None = None  # as the answer said; None: pending
    cancel: str = ""  # what its cancellation was answered: "cancelled", "too late", or "" for none
    removal: bool = False  # whether its data is null
    until_us: int | None = None  # when the version ends; None: it does not end by itself
    # The condition: the uuid or the position of the version that must be the latest, or "none"; None: no condition.
    if_latest: str | int | None = None
    replaces: str = ""  # the uuid of the record that the same batch cancels
    beside: str = ""  # the uuid of another record that the same batch inserts
    refused: str = ""  # why it was refused: the end of the problem's type
    told: str | None = None  # the uuid of the latest record, as the refusal because of the condition said; None: none
    sent: int = 0  # how often it was sent until it was answered


class Seen(NamedTuple):
    """A frame of a record, as a subscriber got it."""

    position: int
    event: str
    data_uuid: str | None  # what the data says; None: the data is null
    received_us: int
    uuid: str = ""  # only in record frames
    until_us: int | None = None  # only in record frames


@dataclass
class View:
    """All that one subscriber got, over all its connections since it last began with a snapshot."""

    seen: list[Seen] = field(default_factory=list)
    snapshot_end: int | None = None  # the position of its first $ready
    left: bool = False  # before the end of the run
    resets: int = 0
    skips: int = 0
    records: bool = False  # whether its frames are whole records

    @property
    def position(self) -> int:
        """Up to where it has everything."""
        return max(self.snapshot_end or 0, self.seen[-1].position if self.seen else 0)


@dataclass
class History:
    inserts: dict[str, Insert] = field(default_factory=dict)
    views: list[View] = field(default_factory=list)
    # The snapshots that were taken when the run was over, by the way in which each was asked for.
    last: dict[str, View] = field(default_factory=dict)


class Row(NamedTuple):
    """A record in the log."""

    uuid: str
    event: str
    due_us: int
    position: int | None
    published_us: int | None
    cancelled: bool
    data_uuid: str | None  # None: the data is null
    inserted_us: int = 0
    user: str = ""
    until_us: int | None = None
    ends: str | None = None  # the uuid of the version that this record ends

    @property
    def was_pending(self) -> bool:
        return self.ends is None and self.due_us > self.inserted_us


_LOG = """SELECT r.uuid, r.event, r.due_us, p.position, p.published_us, c.number IS NOT NULL, r.data, r.inserted_us,
           r.{author}, e.until_us, e.ends
    FROM records r LEFT JOIN publications p USING (number) LEFT JOIN cancellations c USING (number)
    LEFT JOIN endings e USING (number) ORDER BY r.number"""
_REST = """SELECT {epoch}, head, (SELECT count(*) FROM pending),
           (SELECT count(*) FROM events WHERE until_us IS NOT NULL)
    FROM state, epochs WHERE ended IS NULL"""


class Rest(NamedTuple):
    """The end of a log, and what is still to be published by itself."""

    epoch: str
    head: int
    pending: int
    to_end: int  # how many of the latest versions have an end


@dataclass(frozen=True)
class Log:
    """The log of a run: of SQLite in a file, or of PostgreSQL."""

    file: Path
    url: str = ""  # of PostgreSQL

    def rows(self) -> list[Row]:
        """Returns every record, in the order of insertion."""
        return [_row(*row) for row in self._read(_LOG.format(author="username" if self.url else "user"))]

    def rest(self) -> Rest:
        return Rest(*self._read(_REST.format(epoch="label" if self.url else "epoch"))[0])

    def _read(self, query: str) -> list[Any]:
        if self.url:
            with psycopg.connect(self.url, options="-c search_path=broker") as log:
                return log.execute(query.encode()).fetchall()
        with sqlite3.connect(f"file:{self.file}?mode=ro", uri=True) as log:
            return log.execute(query).fetchall()


def _row(
    uuid: object, event: str, due_us: int, position: int, published_us: int, cancelled: bool, data: str,
    inserted_us: int, user: str, until_us: int | None, ends: object,
) -> Row:  # fmt: skip
    content = json.loads(data)
    return Row(
        _uuid(uuid), event, due_us, position, published_us, bool(cancelled), content and content["uuid"],
        inserted_us, user, until_us, None if ends is None else _uuid(ends),
    )  # fmt: skip


def _uuid(value: object) -> str:
    """SQLite has the bytes of a uuid, and PostgreSQL has it as such."""
    return str(UUID(bytes=value) if isinstance(value, bytes) else value)
