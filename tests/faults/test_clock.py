"""The clock steps by an hour, either way: never early by the clock that the server has, never lost, never twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker import Broker, Settings
from broker.live.frames import Frame
from broker.records import NewRecord, make_uuid
from broker.users import OPERATOR
from tests.support.clock import HOUR_US, Clock

pytestmark = pytest.mark.anyio


@contextmanager
def published(broker: Broker) -> Iterator[list[str]]:
    """The data of what goes out, as it goes out."""
    heard: list[str] = []
    put = broker.relay.snapshot.put

    def note(frame: Frame) -> None:
        heard.append(frame.named.decode().partition("data: ")[2].strip())
        put(frame)

    broker.relay.snapshot.put = note  # type: ignore[method-assign] # what follows is the real one
    yield heard


def record(data: str, due_us: int | None = None) -> NewRecord:
    return NewRecord(make_uuid(1), "e", data.encode(), "ada", due_us=due_us)


async def comes_true(condition: object, bound_s: float = 10.0) -> bool:
    assert callable(condition)
    deadline = time.monotonic() + bound_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True


async def test_a_clock_that_steps_forward_publishes_what_is_due_then_and_nothing_else(tmp_path: Path) -> None:
    clock = Clock()
    broker = Broker(Settings(data=tmp_path, scheduler_sleep_max_s=0.2), clock)
    async with broker.lifespan():
        with published(broker) as heard:
            await broker.insert([record('"in an hour"', clock() + HOUR_US)], OPERATOR)
            await broker.insert([record('"in three"', clock() + 3 * HOUR_US)], OPERATOR)
            clock.ahead_us = HOUR_US + 1_000_000
            assert await comes_true(lambda: heard == ['"in an hour"'])
            clock.ahead_us = 3 * HOUR_US + 1_000_000
            assert await comes_true(lambda: heard == ['"in an hour"', '"in three"'])


async def test_a_clock_that_steps_back_delays_and_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    clock = Clock()
    broker = Broker(Settings(data=tmp_path, scheduler_sleep_max_s=0.2), clock)
    async with broker.lifespan():
        with published(broker) as heard:
            await broker.insert([record('"first"')], OPERATOR)
            await broker.insert([record('"soon"', clock() + 300_000)], OPERATOR)
            clock.ahead_us = -HOUR_US
            # An hour before the first, by the clock; after it by position.
            await broker.insert([record('"second"')], OPERATOR)
            await asyncio.sleep(0.6)  # its time by a clock that had not stepped
            assert heard == ['"first"', '"second"']
            clock.ahead_us = 0
            assert await comes_true(lambda: heard == ['"first"', '"second"', '"soon"'])
    again = Broker(Settings(data=tmp_path), clock)
    async with again.lifespan():
        assert (await again.store.head()).position == 3
        _, rows = await again.store.read(0, 10, 10, 10_000)
        assert [row.data for row in rows] == [b'"first"', b'"second"', b'"soon"']
