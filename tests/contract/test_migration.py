"""A log of an older Broker, in which null was data like any other: whose latest is null has no state from now on."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from broker.operations.backup import backup, restore
from broker.operations.export import export_log, import_log, read_head
from broker.operations.move import move_log
from broker.store.base import State
from broker.store.postgres.database import MIGRATIONS as POSTGRES_MIGRATIONS
from broker.store.sqlite.file import MIGRATIONS as SQLITE_MIGRATIONS
from tests.support.postgres import a_database
from tests.support.store import START_US, Workbench, faults, published

pytestmark = pytest.mark.anyio

LATER_US = START_US + 1_000_000

# The records in the order of their numbers: event, data, and the position, or None for a record that is pending.
RECORDS: list[tuple[str, str, int | None]] = [
    ("removed", "1", 1),
    ("removed", "null", 2),
    ("removed", "null", 3),
    ("never had state", "null", 4),
    ("will be removed again", "null", 5),
    ("will be removed again", "null", None),
    ("has state", "2", 6),
    ("may come back", '"x"', 7),
    ("may come back", "null", 8),
    ("may come back", '"long"', None),
    ("was published late", "5", 10),  # was pending when the next one was inserted
    ("was published late", "null", 9),
    ("will be removed", "1", 11),
    ("will be removed", "null", None),
    ("came back", "null", 12),
    ("came back", "3", 13),
    ("is false", "false", 14),
]
# The rows of events as the older Broker wrote them, without the name: position, bytes, pending and reserved.
EVENTS = {
    "removed": (3, 4, 0, 4),
    "never had state": (4, 4, 0, 4),
    "will be removed again": (5, 4, 1, 4),
    "has state": (6, 1, 0, 1),
    "may come back": (8, 4, 1, 6),
    "was published late": (10, 1, 0, 1),
    "will be removed": (11, 1, 1, 4),
    "came back": (13, 1, 0, 1),
    "is false": (14, 5, 0, 5),
}
# The positions of the latest records after the migration, removals included.
LATEST = {
    "removed": 2,
    "has state": 6,
    "may come back": 8,
    "was published late": 10,
    "will be removed": 11,
    "came back": 13,
    "is false": 14,
}
HEAD, EVENT_NAMES, REMOVALS, RESERVED = 14, 7, 1, 1 + 6 + 1 + 1 + 1 + 5


def old_tables() -> dict[str, list[Sequence[Any]]]:
    """The rows of an older log, with uuids in the form of PostgreSQL."""
    tables: dict[str, list[Sequence[Any]]] = {"records": [], "publications": [], "pending": []}
    for number, (event, data, position) in enumerate(RECORDS, 1):
        due_us = START_US if position else LATER_US
        timestamp = None if position else f"{LATER_US}e-6"
        row = (number, UUID(int=number), event, "ada", timestamp, due_us, False, START_US, data)
        tables["records"].append(row)
        if not position:
            tables["pending"].append((due_us, number))
    total = 0
    for position, number, data in sorted((at, number, data) for number, (_, data, at) in enumerate(RECORDS, 1) if at):
        total += len(data)
        tables["publications"].append((position, number, START_US, total))
    tables["events"] = [(event, *row) for event, row in EVENTS.items()]
    return tables


def counters() -> tuple[int, ...]:
    total = sum(len(data) for _, data, position in RECORDS if position)
    return len(RECORDS), HEAD, total, len(EVENTS), sum(reserved for *_, reserved in EVENTS.values())


UPDATE = "last_number = {0}, head = {1}, total_bytes = {2}, event_names = {3}, reserved_bytes = {4}"


def make_sqlite_log(folder: Path, version: int = 2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(folder / "broker.db", isolation_level=None)) as log:
        log.execute("PRAGMA journal_mode = WAL")
        log.executescript("".join(SQLITE_MIGRATIONS.upto(version)) + f"PRAGMA user_version = {version};")
        for table, rows in old_tables().items():
            for row in rows:
                values = [value.bytes if isinstance(value, UUID) else value for value in row]
                log.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", values)
        log.execute(f"UPDATE state SET {UPDATE.format(*counters())}")
    return folder


def make_postgres_log(database: str) -> str:
    with psycopg.connect(database) as log:
        log.execute("CREATE SCHEMA broker; CREATE TABLE broker.schema_version (version INTEGER NOT NULL)")
        for number, script in enumerate(POSTGRES_MIGRATIONS.upto(1), 1):
            log.execute(script.encode())
            log.execute("INSERT INTO broker.schema_version VALUES (%s)", (number,))
        for table, rows in old_tables().items():
            for row in rows:
                log.execute(f"INSERT INTO broker.{table} VALUES ({', '.join(['%s'] * len(row))})".encode(), row)
        log.execute(f"UPDATE broker.state SET {UPDATE.format(*counters())}".encode())
    return database


def state_of(folder: Path) -> tuple[int, ...]:
    with contextlib.closing(sqlite3.connect(folder / "broker.db")) as log:
        row: tuple[int, ...] = log.execute(
            "SELECT event_names, removals, removals_floor, reserved_bytes FROM state"
        ).fetchone()
    return row


def latest(state: State) -> dict[str, int | None]:
    return {record.event: record.position for record in state.latest}


@pytest.mark.parametrize("store", ["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.postgres)])
async def test_names_and_bytes_of_an_older_log_are_counted_again_when_it_is_opened(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    workbench = Workbench(tmp_path / "log")
    if store == "PostgreSQL":
        workbench.database = make_postgres_log(a_database(request.getfixturevalue("postgres")))
    else:
        make_sqlite_log(workbench.folder)
    async with workbench.opened() as opened:
        state = await opened.snapshot()
        assert latest(state) == LATEST
        assert state.removals_floor == 0
    if workbench.database:
        move_log(workbench.database, str(tmp_path / "moved"), lambda done, total: None)
        workbench = Workbench(tmp_path / "moved")
    assert state_of(workbench.folder) == (EVENT_NAMES, REMOVALS, 0, RESERVED)
    with contextlib.closing(sqlite3.connect(workbench.folder / "broker.db")) as log:
        assert log.execute("SELECT event FROM events WHERE falsy").fetchall() == [("is false",)]
    assert faults(workbench.folder) == []

    workbench.now_us = LATER_US
    async with workbench.opened() as opened:
        await opened.publish_due()
        assert (await published(opened))[HEAD:] == [
            ("will be removed again", "null"),
            ("may come back", '"long"'),
            ("will be removed", "null"),
        ]
        assert latest(await opened.snapshot()) == LATEST | {"may come back": HEAD + 2, "will be removed": HEAD + 3}
    assert state_of(workbench.folder) == (5, 2, 0, 6 + 1 + 1 + 1 + 5)
    assert faults(workbench.folder) == []


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_log_can_be_verified_backed_up_restored_and_exported_as_it_is(tmp_path: Path, version: int) -> None:
    old = make_sqlite_log(tmp_path / "old", version)
    before = (old / "broker.db").read_bytes()
    assert faults(old) == []
    backup(old / "broker.db", tmp_path / "backup.db", lambda done, total: None)
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup.db").rename(tmp_path / "backup/broker.db")
    assert faults(tmp_path / "backup") == []
    (tmp_path / "restored").mkdir()
    restore(tmp_path / "backup/broker.db", tmp_path / "restored/broker.db", lambda done, total: None)
    lines = list(export_log(old / "broker.db", lambda _: None))
    rest = iter(lines)
    import_log(tmp_path / "imported/broker.db", read_head(rest), rest, lambda _: None)
    for folder in ("restored", "imported"):
        assert faults(tmp_path / folder) == []
        assert state_of(tmp_path / folder)[:3] == (EVENT_NAMES, REMOVALS, 0)
        assert list(export_log(tmp_path / folder / "broker.db", lambda _: None))[1:] == lines[1:]
    assert (old / "broker.db").read_bytes() == before  # it was only read


@pytest.mark.parametrize("store", ["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.postgres)])
def test_an_older_log_is_moved_in_the_new_form(store: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if store == "PostgreSQL":
        source = make_postgres_log(a_database(request.getfixturevalue("postgres")))
    else:
        source = str(make_sqlite_log(tmp_path / "old"))
    move_log(source, str(tmp_path / "moved"), lambda done, total: None)
    assert state_of(tmp_path / "moved") == (EVENT_NAMES, REMOVALS, 0, RESERVED)
    assert faults(tmp_path / "moved") == []


@pytest.mark.postgres
async def test_a_node_of_an_older_version_neither_writes_nor_reads_records_any_more(
    postgres: str, tmp_path: Path
) -> None:
    """It would do so without rules. Each of its transactions begins with the first statement, and each record that it
    reads has the second one in its columns."""
    database = make_postgres_log(a_database(postgres))
    statements = (
        "SELECT head, (SELECT epoch FROM broker.epochs WHERE ended IS NULL) FROM broker.state",
        "SELECT r.uuid, (SELECT epoch FROM broker.epochs WHERE ended IS NULL) FROM broker.records r",
    )
    with psycopg.connect(database, autocommit=True) as older_node:
        for statement in statements:
            assert older_node.execute(statement).fetchall()
        workbench = Workbench(tmp_path, database=database)
        async with workbench.opened() as opened:
            assert latest(await opened.snapshot()) == LATEST
        for statement in statements:
            # The second one is that of the version before quotas and API keys, which knows the rights.
            for asked in (statement, statement.replace("SELECT epoch", "SELECT name")):
                with pytest.raises(psycopg.errors.UndefinedColumn):
                    older_node.execute(asked)


def test_faults_of_an_older_log_are_found_by_its_own_rules(tmp_path: Path) -> None:
    old = make_sqlite_log(tmp_path)
    with contextlib.closing(sqlite3.connect(old / "broker.db", isolation_level=None)) as log:
        log.execute("UPDATE events SET position = 2 WHERE event = 'removed'")
        log.execute("UPDATE events SET bytes = 0 WHERE event = 'never had state'")
    assert sorted(each.partition(": ")[2] for each in faults(old)) == ["never had state", "never had state", "removed"]
