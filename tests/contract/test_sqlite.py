"""What is SQLite's alone: its file, its lock, who may read it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from broker.errors import SettingsError, Unavailable
from broker.operations.verify import verify
from broker.store.base import Store
from broker.store.sqlite.file import MIGRATIONS, open_database
from broker.store.sqlite.store import SQLiteStore
from tests.support.store import Workbench, append, positions

pytestmark = pytest.mark.anyio


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


async def test_a_second_store_on_the_log_is_refused_while_the_first_is_open(workbench: Workbench) -> None:
    """Each would know nothing of what the other publishes."""
    for _ in range(2):  # the second time, the first one has let go of it
        async with workbench.opened() as store:
            with pytest.raises(SettingsError, match="another Broker works on"):
                async with workbench.opened():
                    pass
            await store.append([workbench.new()])


async def test_a_database_of_a_newer_broker_is_refused_and_left_alone(workbench: Workbench) -> None:
    with sqlite3.connect(workbench.folder / "broker.db") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(SettingsError, match="newer Broker"):
        async with workbench.opened():
            pass


async def test_a_path_may_begin_with_two_slashes(workbench: Workbench) -> None:
    """As of "$ROOT/data" where ROOT is /; and it is no host's name."""
    workbench.folder = Path("/" + str(workbench.folder.resolve()))
    assert str(workbench.folder).startswith("//")
    async with workbench.opened() as store:
        await store.publish_due()
    assert not list(verify(workbench.folder / "broker.db", lambda _: None))


async def test_what_is_no_database_is_refused_with_its_name(workbench: Workbench) -> None:
    (workbench.folder / "broker.db").write_bytes(b"no database at all, but long enough to be looked at " * 20)
    with pytest.raises(SettingsError, match=r"broker\.db"):
        async with workbench.opened():
            pass


def test_each_commit_is_synced_to_the_disk(workbench: Workbench) -> None:
    connection = open_database(workbench.folder / "broker.db")
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_new_log_can_be_made_smaller_and_an_older_one_stays_as_it_is(workbench: Workbench) -> None:
    """SQLite heeds the setting only before the first page is written."""
    for older_broker, mode in ((False, 2), (True, 0)):
        file = workbench.folder / f"{mode}" / "broker.db"
        if older_broker:
            file.parent.mkdir()
            log = sqlite3.connect(file)
            log.execute("PRAGMA journal_mode = WAL")
            log.executescript("".join(MIGRATIONS.upto(1)) + "PRAGMA user_version = 1;")
            log.close()
        for _ in range(2):
            connection = open_database(file)
            assert connection.execute("PRAGMA auto_vacuum").fetchone() == (mode,)
            connection.close()
        assert not list(verify(file, lambda _: None))


async def test_while_the_log_is_locked_writes_are_refused_and_then_work_again(
    store: Store, workbench: Workbench
) -> None:
    other = sqlite3.connect(workbench.folder / "broker.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert isinstance(store, SQLiteStore)
    with pytest.raises(Unavailable):
        await append(store, workbench.new())
    other.execute("ROLLBACK")
    other.close()
    await append(store, workbench.new())
    assert await positions(store) == [1]


async def test_the_log_and_its_users_are_for_the_operator_alone(store: Store, workbench: Workbench) -> None:
    await append(store, workbench.new())
    files = list(workbench.folder.glob("broker.db*"))
    assert len(files) == 3
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


async def test_data_is_stored_as_text(workbench: Workbench) -> None:
    async with workbench.opened() as store:
        await append(store, workbench.new(data='"é\\u00e9"'))
    database = sqlite3.connect(workbench.folder / "broker.db")
    assert database.execute("SELECT typeof(data), data FROM records").fetchall() == [("text", '"é\\u00e9"')]
    database.close()
