"""What is derived from a log (the rows of events, the counters, the endings) has no fault after any sequence of
inserts, removals, endings and cancels, and is the same after an import and after a move."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from random import Random
from typing import Any

import pytest

from broker.errors import BrokerError
from broker.operations.content import COPIED
from broker.operations.export import export_log, import_log, read_head
from broker.operations.move import move_log
from broker.records import Cancel, NewRecord, seconds_text
from broker.store import transaction
from broker.store.base import Store
from broker.store.tables import Counters
from broker.users import OPERATOR, Actor
from tests.support.postgres import a_database
from tests.support.store import Workbench, faults

pytestmark = pytest.mark.anyio

STORES = ["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.postgres)]
NAMES = [f"e{n}" for n in range(9)]


@pytest.fixture(params=STORES)
def workbench(request: pytest.FixtureRequest, tmp_path: Path) -> Workbench:
    folder = tmp_path / "first"
    if request.param == "SQLite":
        return Workbench(folder)
    return Workbench(folder, a_database(request.getfixturevalue("postgres")))


def exported(folder: Path) -> list[bytes]:
    return list(export_log(folder / "broker.db", lambda _: None))


def imported(folder: Path, lines: list[bytes]) -> None:
    rest = iter(lines)
    import_log(folder / "broker.db", read_head(rest), rest, lambda _: None)


def moved(source: object, target: object) -> None:
    move_log(str(source), str(target), lambda done, total: None)


def rows(folder: Path, table: str, columns: str = "*") -> list[Any]:
    with contextlib.closing(sqlite3.connect(folder / "broker.db")) as log:
        return log.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()


def counters(folder: Path) -> Counters:
    return Counters(*rows(folder, "state", ", ".join(Counters._fields))[0])


def as_folder(workbench: Workbench, folder: Path) -> Path:
    """The log as a folder: a log on PostgreSQL is moved."""
    if not workbench.database:
        return workbench.folder
    moved(workbench.database, folder)
    return folder


class Publisher:
    """Inserts, removes, ends and cancels at random."""

    def __init__(self, store: Store, workbench: Workbench, random: Random) -> None:
        self.store, self.workbench, self.random = store, workbench, random
        self.user = ""  # of the batch
        self.inserted: list[NewRecord] = []

    def item(self) -> NewRecord | Cancel:
        random, now_us = self.random, self.workbench.now_us
        if self.inserted and random.random() < 0.25:
            return Cancel(random.choice(self.inserted[-30:]).uuid, "bob")
        if self.inserted and random.random() < 0.05:
            return random.choice(self.inserted[-10:])  # the same insert again
        later_us = random.choice([None, None, None, -3, 1, 2, 5, 20])
        data = random.choice(["null", "null", "1", '"a longer text"', "[2]"])
        more: dict[str, Any] = {"log_only": random.random() < 0.1, "uuid_given": True, "user": self.user}
        if data != "null" and not more["log_only"] and random.random() < 0.5:
            until_us = now_us + max(later_us or 0, 0) + random.randint(1, 6)
            more |= {"until_us": until_us, "until": seconds_text(until_us)}
        if later_us is None and random.random() < 0.2:
            more["if_latest"] = "none"
        new = self.workbench.new(random.choice(NAMES), data, later_us, **more)
        self.inserted.append(new)
        return new

    async def act(self) -> None:
        """Carries out a batch, which may be refused as a whole."""
        self.workbench.now_us += self.random.choice([0, 0, 1, 1, 2, 12])
        self.user = self.random.choice(["ada", "bob", ""])
        actor = Actor(f"id-{self.user}", self.user) if self.user else OPERATOR
        with contextlib.suppress(BrokerError):
            await self.store.append([self.item() for _ in range(self.random.choice([1, 1, 1, 2, 4]))], actor)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("removals_kept", [2, 1_000])
async def test_whatever_was_inserted_removed_ended_and_cancelled_there_is_no_fault_and_every_copy_is_the_same(
    workbench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, removals_kept: int
) -> None:
    if seed % 2:  # what is due is read, and written, in several pages
        monkeypatch.setattr(transaction, "_PAGE_RECORDS_MAX", 2)
    async with workbench.opened(
        removals_kept=removals_kept, event_names_max=6, snapshot_bytes_max=60, event_names_per_user_max=3,
        snapshot_bytes_per_user_max=40, pending_per_user_max=5,
    ) as store:  # fmt: skip
        publisher = Publisher(store, workbench, Random(seed))
        for step in range(150):
            await publisher.act()
            if not workbench.database and step % 10 == 0:
                assert faults(workbench.folder) == []
    folder = as_folder(workbench, tmp_path / "moved")
    assert faults(folder) == []
    before = counters(folder)
    assert (before.removals_floor > 0) == (removals_kept == 2)
    assert rows(folder, "endings", "count(ends)")[0][0] > 5

    lines = exported(folder)
    imported(tmp_path / "imported", lines)
    assert exported(tmp_path / "imported")[1:] == lines[1:]
    for table in COPIED.keys() - {"events", "usage"}:
        assert rows(tmp_path / "imported", table) == rows(folder, table), table
    if not before.removals_floor:
        assert rows(tmp_path / "imported", "events") == rows(folder, "events")
        assert counters(tmp_path / "imported") == before
    taken = "user, names, bytes, pending"
    used = [row for row in rows(folder, "usage", taken) if any(row[1:])]
    assert [row for row in rows(tmp_path / "imported", "usage", taken) if any(row[1:])] == used
    assert used


async def test_the_floor_of_the_removals_never_falls(workbench: Workbench, tmp_path: Path) -> None:
    """A removal whose event has something pending is kept, and may be the next one to be forgotten afterwards."""
    async with workbench.opened(removals_kept=1) as store:
        pending = [workbench.new(event, later_us=1_000) for event in ("a", "b")]
        for event in "ab":
            await store.append([workbench.new(event), workbench.new(event, "null")])
        await store.append(pending)
        for event in "cde":
            await store.append([workbench.new(event), workbench.new(event, "null")])
        floor = (await store.snapshot()).removals_floor
        assert floor == 8
        await store.append([Cancel(record.uuid, "ada") for record in pending])
        state = await store.snapshot()
        assert state.removals_floor == floor
        assert [(record.event, record.position) for record in state.latest] == [("e", 10)]
    assert faults(as_folder(workbench, tmp_path / "moved")) == []
