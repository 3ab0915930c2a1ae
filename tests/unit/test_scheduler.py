"""Which due time counts, of several that it hears of."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from broker.live.scheduler import Scheduler
from broker.records import NewRecord, make_uuid
from broker.settings import Settings
from broker.store.base import Commit
from broker.store.sqlite.store import SQLiteStore

pytestmark = pytest.mark.anyio

BOUND_S = 10.0


def now_us() -> int:
    return time.time_ns() // 1_000


async def published_after(tmp_path: Path, *hints: int | None) -> None:
    """A record is due soon; these hints come, microseconds later than it, and it is published before they say."""
    settings = Settings(scheduler_sleep_max_s=1_000.0)
    store = SQLiteStore(tmp_path / "broker.db", settings, now_us)
    scheduler = Scheduler(store, settings)
    published = asyncio.Event()

    def on_commit(commit: Commit) -> None:
        scheduler.hint(commit)
        if commit.head:
            published.set()

    await store.start(on_commit)
    running = asyncio.create_task(scheduler.run())
    due_us = now_us() + 300_000
    await store.append([NewRecord(make_uuid(1), "e", b"1", "ada", f"{due_us}e-6", due_us)])
    for hint in hints:
        scheduler.hint(Commit([], 0, None if hint is None else due_us + hint))
    await asyncio.wait_for(published.wait(), BOUND_S)
    assert now_us() >= due_us
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.stop()


async def test_a_hint_of_an_older_commit_that_comes_late_does_not_delay_a_record(tmp_path: Path) -> None:
    await published_after(tmp_path, 500_000_000, None)


async def test_an_earlier_time_at_which_nothing_is_due_any_more_does_no_harm(tmp_path: Path) -> None:
    await published_after(tmp_path, -200_000)
