"""The list of what is pending, over every store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from uuid import uuid4

import pytest

from broker.errors import NotFound
from broker.records import Cancel, Record
from broker.store.base import RECORD_BYTES, Store
from broker.users import Actor
from tests.support.store import START_US, Workbench, append

pytestmark = pytest.mark.anyio


async def pending(store: Store, records_max: int = 1_000, bytes_max: int = 10**9) -> list[Record]:
    """All of them, page by page."""
    found: list[Record] = []
    after = None
    while page := await store.pending(after, records_max, bytes_max):
        assert len(page) <= records_max
        found += page
        after = page[-1].due_us, page[-1].number
    return found


@pytest.mark.parametrize("records_max", [1, 2, 3, 1_000])
async def test_pending_records_are_in_the_order_of_due_time_and_number(
    store: Store, workbench: Workbench, records_max: int
) -> None:
    for n, later_us in enumerate((30, 10, 20, 10, 30)):
        await append(store, workbench.new(data=str(n), later_us=later_us))
    await append(store, workbench.new(data="5"))
    await append(store, workbench.new(data="6", later_us=10, log_only=True))
    assert [record.data for record in await pending(store, records_max)] == [b"1", b"3", b"2", b"0", b"4"]


async def test_what_was_cancelled_or_published_is_not_pending_any_more(store: Store, workbench: Workbench) -> None:
    records = [(await append(store, workbench.new(data=str(n), later_us=10 * n)))[0] for n in range(1, 4)]
    await store.cancel(records[1].uuid, Actor(username="ada"))
    assert await pending(store) == [records[0], records[2]]
    workbench.now_us += 10
    assert await pending(store) == [records[0], records[2]]  # its time has come, and nothing has published it
    await store.publish_due()
    assert await pending(store) == [records[2]]


async def test_a_page_continues_after_a_record_that_is_not_pending_any_more(store: Store, workbench: Workbench) -> None:
    records = [(await append(store, workbench.new(data=str(n), later_us=10)))[0] for n in range(3)]
    await store.cancel(records[1].uuid, Actor(username="ada"))
    place = await store.due_of(records[1].uuid)
    assert place == (START_US + 10, records[1].number)
    assert await store.pending(place, 10, 10**6) == [records[2]]
    assert await store.due_of(uuid4()) is None


async def test_a_page_has_no_more_bytes_than_asked_for_but_at_least_one_record(
    store: Store, workbench: Workbench
) -> None:
    await asyncio.gather(*[append(store, workbench.new(data="1" * 100, later_us=n)) for n in range(1, 11)])
    assert len(await store.pending(None, 100, 1)) == 1
    assert len(await store.pending(None, 100, 3 * (RECORD_BYTES + 100))) == 3
    assert len(await pending(store, bytes_max=700)) == 10


async def test_a_pending_record_has_the_end_that_was_asked_for(store: Store, workbench: Workbench) -> None:
    new = workbench.new(later_us=10, until="1700000001", until_us=START_US + 10**6)
    record, _ = await append(store, new)
    assert await pending(store) == [record]
    assert record.until == "1700000001"


async def test_a_commit_says_whether_what_is_pending_has_changed(store: Store, workbench: Workbench) -> None:
    await append(store, workbench.new())
    await append(store, workbench.new(log_only=True, later_us=10))
    await append(store, workbench.new(until="1700000001", until_us=START_US + 10**6))
    own = [commit for commit in workbench.commits if commit.epoch]  # without the hint that other nodes may have written
    assert not any(commit.pending_changed for commit in own)

    async def changed(write: Awaitable[object]) -> bool:
        await write
        return workbench.commits[-1].pending_changed

    record, _ = await append(store, workbench.new(later_us=10))
    assert workbench.commits[-1].pending_changed
    assert await changed(append(store, workbench.new(later_us=20)))
    assert not await changed(append(store, workbench.new()))
    assert await changed(store.cancel(record.uuid, Actor(username="ada")))
    assert not await changed(store.cancel(record.uuid, Actor(username="ada")))
    workbench.now_us += 20
    assert await changed(store.publish_due())
    assert not await changed(store.publish_due())


async def test_a_batch_that_is_refused_has_changed_nothing(store: Store, workbench: Workbench) -> None:
    with pytest.raises(NotFound):
        await store.append([workbench.new(later_us=10), Cancel(uuid4(), "ada")])
    assert not workbench.commits[-1].pending_changed
