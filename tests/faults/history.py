"""What the clients of a run saw, and the checker that compares it with the log."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import psycopg


@dataclass
class Insert:
    """One record that a publisher wanted to insert; sent again, with its uuid, until it was answered."""

    uuid: str
    due_us: int | None = None  # later; None: now
    acknowledged: bool = False
    position: int | None = None  # as the answer said; None: pending
    cancel: str = ""  # what its cancellation was answered: "cancelled", "too late", or "" for none


class Seen(NamedTuple):
    """A frame of a record, as a subscriber got it."""

    position: int
    uuid: str
    received_us: int


@dataclass
class View:
    """All that one subscriber got, over all its connections since it last began with a snapshot."""

    seen: list[Seen] = field(default_factory=list)
    snapshot_end: int | None = None  # the position of its first $ready
    left: bool = False  # before the end of the run
    resets: int = 0
    skips: int = 0

    @property
    def position(self) -> int:
        """Up to where it has everything."""
        return max(self.snapshot_end or 0, self.seen[-1].position if self.seen else 0)


@dataclass
class History:
    inserts: dict[str, Insert] = field(default_factory=dict)
    views: list[View] = field(default_factory=list)


class Row(NamedTuple):
    """A record in the log."""

    uuid: str
    event: str
    due_us: int
    position: int | None
    published_us: int | None
    cancelled: bool
    data_uuid: str


_LOG = """SELECT r.uuid, r.event, r.due_us, p.position, p.published_us, c.number IS NOT NULL, r.data
    FROM records r LEFT JOIN publications p USING (number) LEFT JOIN cancellations c USING (number)
    ORDER BY r.number"""


def read_log(file: Path) -> list[Row]:
    """Every record, in the order of insertion."""
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as log:
        return [_row(UUID(bytes=uuid), *row) for uuid, *row in log.execute(_LOG)]


def read_postgres_log(url: str) -> list[Row]:
    """The same, of PostgreSQL."""
    with psycopg.connect(url, options="-c search_path=broker") as log:
        return [_row(*row) for row in log.execute(_LOG)]


def _row(uuid: UUID, event: str, due_us: int, position: int, published_us: int, cancelled: bool, data: str) -> Row:
    return Row(str(uuid), event, due_us, position, published_us, bool(cancelled), json.loads(data)["uuid"])


def check(history: History, log: list[Row]) -> Iterator[str]:
    """Everything that contradicts the promises. The run is over: nothing is pending, every subscriber has caught up."""
    rows = {row.uuid: row for row in log}
    yield from (
        f"{uuid} is in the log {count} times" for uuid, count in Counter(r.uuid for r in log).items() if count > 1
    )
    for insert in history.inserts.values():
        yield from _check_insert(insert, rows.get(insert.uuid))
    published = sorted((row.position, row) for row in log if row.position is not None)
    for expected, (position, _) in enumerate(published, 1):
        if position != expected:
            yield f"the log's positions have a hole, or one twice: {position} in place of {expected}"
            break
    at = dict(published)
    for row in log:
        if row.data_uuid != row.uuid:
            yield f"{row.uuid} has the data of {row.data_uuid}"
        if row.uuid not in history.inserts:
            yield f"{row.uuid} is in the log, and nobody inserted it"
        if row.published_us is not None and row.published_us < row.due_us:
            yield f"{row.uuid} was published {row.due_us - row.published_us} µs early"
        if row.position is not None and row.cancelled:
            yield f"{row.uuid} is published and cancelled"
        if row.position is None and not row.cancelled:
            yield f"{row.uuid} was never published"
    for number, view in enumerate(history.views):
        yield from (f"subscriber {number}: {fault}" for fault in _check_view(view, at))


def _check_insert(insert: Insert, row: Row | None) -> Iterator[str]:
    if row is None:
        if insert.acknowledged:
            yield f"{insert.uuid} was acknowledged, and is not in the log"
        return
    if insert.position is not None and insert.position != row.position:
        yield f"{insert.uuid} was acknowledged at position {insert.position}, and the log has it at {row.position}"
    if insert.due_us is not None and insert.due_us != row.due_us:
        yield f"{insert.uuid} was due at {insert.due_us}, and the log says {row.due_us}"
    if insert.cancel == "cancelled" and not row.cancelled:
        yield f"{insert.uuid}: its cancellation was acknowledged, and it is published at {row.position}"
    if insert.cancel == "too late" and row.position is None:
        yield f"{insert.uuid}: its cancellation was refused, and it is not published"


def _check_view(view: View, at: dict[int, Row]) -> Iterator[str]:
    if view.resets or view.skips:
        yield f"was told to forget {view.resets} times, and skipped {view.skips} times"
    live_from = len(at) + 1 if view.snapshot_end is None else view.snapshot_end + 1
    latest: dict[str, int] = {}
    before = 0
    for seen in view.seen:
        if seen.position <= before:
            yield f"got position {seen.position} after {before}"
            return
        if seen.position > max(live_from, before + 1):
            yield f"got position {seen.position} in place of {max(live_from, before + 1)}"
            return
        before = seen.position
        row = at.get(seen.position)
        if row is None or row.uuid != seen.uuid:
            yield f"got {seen.uuid} at position {seen.position}, where the log has {row.uuid if row else 'nothing'}"
            continue
        latest[row.event] = seen.position
        if seen.received_us < row.due_us:
            yield f"got {seen.uuid} {row.due_us - seen.received_us} µs early"
    yield from _check_state(view, latest, at)
    if not view.left and view.position != len(at):
        yield f"got {view.position} records of {len(at)}"


def _check_state(view: View, latest: dict[str, int], at: dict[int, Row]) -> Iterator[str]:
    """From $ready on it holds the latest of every event."""
    if view.snapshot_end is None:
        return
    expected = {row.event: position for position, row in at.items() if position <= view.position}
    for event, position in expected.items():
        if latest.get(event) != position:
            yield f"holds {event} as of {latest.get(event)}; its latest was at {position}"
