"""A store on data of its own, and what the tests of stores read from it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from broker.operations.verify import verify
from broker.records import NewRecord, Record, make_uuid
from broker.rules.rights import Rights
from broker.settings import Settings
from broker.store.base import Commit, Store
from broker.store.postgres.store import PostgresStore
from broker.store.sqlite.store import SQLiteStore

START_US = 1_700_000_000_000_000


class Workbench:
    """A store on data of its own, a clock to turn, and what it hinted at."""

    def __init__(self, folder: Path, database: str = "") -> None:
        self.folder = folder
        self.database = database  # of PostgreSQL; none: SQLite in the folder
        self.now_us = START_US
        self.commits: list[Commit] = []
        self.settings = Settings(data=folder)

    @asynccontextmanager
    async def opened(self, rights: Rights | None = None, **settings: int) -> AsyncIterator[Store]:
        """Opens the store, again if need be: what was committed is still there. ``rights``: the view of its node."""
        given = Settings(data=self.folder, **settings)  # type: ignore[arg-type] # all are integers
        store: Store
        if self.database:
            store = PostgresStore(self.database, given, lambda: self.now_us, rights)
        else:
            store = SQLiteStore(self.folder / "broker.db", given, lambda: self.now_us, rights)
        await store.start(self.commits.append)
        try:
            yield store
        finally:
            await store.stop()

    def new(self, event: str = "e", data: str = "1", later_us: int | None = None, **more: object) -> NewRecord:
        due_us = None if later_us is None else self.now_us + later_us
        timestamp = None if due_us is None else f"{due_us}e-6"
        user = more.pop("user", "ada")
        return NewRecord(make_uuid(1), event, data.encode(), user, timestamp, due_us, **more)  # type: ignore[arg-type]


async def append(store: Store, new: NewRecord) -> tuple[Record, bool]:
    (appended,) = await store.append([new])
    return appended


async def read(
    store: Store, after: int, upto: int = 10**9, records_max: int = 10_000, bytes_max: int = 10**9
) -> list[Record]:
    head, records = await store.read(after, upto, records_max, bytes_max)
    assert head == await store.head()
    return records


async def positions(store: Store) -> list[int | None]:
    return [record.position for record in await read(store, 0)]


async def published(store: Store) -> list[tuple[str, str]]:
    return [(record.event, record.data.decode()) for record in await read(store, 0)]


def faults(folder: Path) -> list[str]:
    """Returns what ``broker verify`` finds in the log of SQLite in this folder."""
    return list(map(str, verify(folder / "broker.db", lambda _: None)))
