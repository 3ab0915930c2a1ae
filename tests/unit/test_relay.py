"""A wake-up is a hint, the store is the truth: a node that hears of nothing still tells everything, in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker import Broker, Settings
from broker.records import NewRecord, make_uuid
from broker.users import OPERATOR
from broker.web.app import App
from tests.support.asgi import AsgiStream
from tests.support.servers import BOUND_S

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def two_nodes(data: Path, **settings: float) -> AsyncIterator[tuple[Broker, Broker]]:
    """Two on one log: neither hears of what the other commits. The lock, which is the folder's, does not see it."""
    folders = [data / "here", data / "there"]
    for folder in folders:
        folder.mkdir()
    (folders[1] / "broker.db").symlink_to(folders[0] / "broker.db")
    here, there = (Broker(Settings(data=folder, **settings)) for folder in folders)  # type: ignore[arg-type] # floats
    async with here.lifespan(), there.lifespan(), asyncio.timeout(BOUND_S):
        for relay in (here.relay, there.relay):  # each reads the store once after its start
            while "waiters" not in repr(relay._wake):  # noqa: ASYNC110 (what is waited for has no event)
                await asyncio.sleep(0.002)
        yield here, there


async def insert(broker: Broker, *data: str) -> None:
    for each in data:
        await broker.insert([NewRecord(make_uuid(1), "e", each.encode(), "ada")], OPERATOR)


async def hears(stream: AsgiStream, *data: str) -> None:
    def heard() -> list[str]:
        return [frame.data for frame in stream.frames if not frame.event.startswith("$")]

    while len(heard()) < len(data):  # noqa: ASYNC110 (what is waited for has no event)
        await asyncio.sleep(0.002)
    assert heard() == list(data)


async def test_a_lost_wake_up_costs_latency_never_a_record(tmp_path: Path) -> None:
    async with two_nodes(tmp_path, relay_poll_s=0.05) as (here, there):
        stream = AsgiStream(App(there))
        await insert(here, "1", "2", "3")
        await hears(stream, "1", "2", "3")
        await insert(there, "4")  # its hint starts behind what the relay has: the store is read
        await hears(stream, "1", "2", "3", "4")
        await insert(here, "5")
        await insert(there, "6")
        await hears(stream, "1", "2", "3", "4", "5", "6")
        await stream.leave()


async def test_a_node_that_is_behind_an_id_waits_for_it_and_resets_nobody(tmp_path: Path) -> None:
    async with two_nodes(tmp_path, relay_poll_s=60.0) as (here, there):
        await insert(here, "1", "2", "3")
        assert there.relay.position == 0
        stream = AsgiStream(App(there), last_id=f"{here.relay.epoch}-2")
        await hears(stream, "3")
        assert there.relay.position == 3
        await stream.leave()


async def test_a_hint_with_too_many_rows_to_carry_is_read_in_pages(tmp_path: Path) -> None:
    now = [time.time_ns() // 1_000]
    broker = Broker(Settings(data=tmp_path, scheduler_sleep_max_s=0.01), clock=lambda: now[0])
    async with broker.lifespan(), asyncio.timeout(BOUND_S):
        stream = AsgiStream(App(broker), query="event=e")
        await asyncio.gather(
            *[
                broker.insert([NewRecord(make_uuid(1), "e", str(n).encode(), "ada", "9", now[0] + 1_000 + n)], OPERATOR)
                for n in range(2_500)
            ]
        )
        now[0] += 10_000
        await hears(stream, *map(str, range(2_500)))
        await stream.leave()
