"""The state at any time, over every store, and the checkpoints that it is read from."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from broker import Broker, Settings
from broker.errors import Unavailable
from broker.live import history
from broker.live.listing import Selection
from broker.operations.verify import verify
from broker.store.base import RECORD_BYTES, Checkpoint, Head, Store, Version, VersionRow
from broker.users import OPERATOR
from tests.support.store import START_US, Workbench, append

pytestmark = pytest.mark.anyio

BOUND_S = 20.0


async def insert(store: Store, workbench: Workbench, *items: tuple[str, str]) -> None:
    """Inserts one record after the other, each of them a microsecond later than the one before."""
    for event, data in items:
        workbench.now_us += 1
        await append(store, workbench.new(event, data))


def places(versions: Iterable[VersionRow]) -> list[tuple[str, int | None]]:
    return [(event, position) for event, position, _ in versions]


@contextlib.asynccontextmanager
async def running(workbench: Workbench) -> AsyncIterator[Broker]:
    settings = Settings(data=workbench.folder, database=workbench.database)
    broker = Broker(settings, clock=lambda: workbench.now_us)
    async with broker.lifespan():
        yield broker


async def checkpoint_reaches(store: Store, position: int) -> None:
    async with asyncio.timeout(BOUND_S):
        while (await store.newest_checkpoint())[0] < position:  # noqa: ASYNC110 (the store reports no checkpoints)
            await asyncio.sleep(0.002)


async def test_the_head_at_a_time_is_what_was_published_then(store: Store, workbench: Workbench) -> None:
    epoch = (await store.head()).epoch
    assert await store.head_at(START_US) == Head(epoch, 0)
    await insert(store, workbench, *[("a", "1")] * 9)
    for made in range(0, 10, 3):
        if made:
            await store.make_checkpoint(made)
        found = [(await store.head_at(START_US + us)).position for us in range(-1, 12)]
        assert found == [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9], f"with checkpoints up to {made}"


@pytest.mark.parametrize("checkpoints", [[], [2, 4], [3, 6], [2, 4, 6, 8]])
async def test_after_the_clock_was_set_back_the_highest_position_counts(
    store: Store, workbench: Workbench, checkpoints: list[int]
) -> None:
    for us in (1, 2, 50, 51, 3, 4, 90, 91):
        workbench.now_us = START_US + us
        await append(store, workbench.new())
    for position in checkpoints:
        await store.make_checkpoint(position)
    expected = {0: 0, 1: 1, 2: 2, 3: 5, 4: 6, 49: 6, 50: 6, 51: 6, 89: 6, 90: 7, 91: 8, 99: 8}
    assert {us: (await store.head_at(START_US + us)).position for us in expected} == expected


async def test_the_state_at_each_position_with_and_without_checkpoints(store: Store, workbench: Workbench) -> None:
    await insert(store, workbench, ("b", "1"), ("a", "2"), ("a", "null"), ("c", "null"), ("b", "5"), ("a", "6"))
    expected = [
        [],
        [("b", 1)],
        [("a", 2), ("b", 1)],
        [("b", 1)],
        [("b", 1)],
        [("b", 5)],
        [("a", 6), ("b", 5)],
    ]
    for position in (0, 2, 4, 6):
        if position:
            await store.make_checkpoint(position)
        assert [places(await store.state_at(at)) for at in range(7)] == expected, f"with checkpoints up to {position}"
    assert await store.newest_checkpoint() == (6, 2)


async def test_a_checkpoint_is_stored_once_and_only_in_its_epoch(store: Store, workbench: Workbench) -> None:
    await insert(store, workbench, ("a", "1"), ("b", "2"), ("a", "3"))
    await asyncio.gather(*[store.make_checkpoint(2) for _ in range(3)])
    assert await store.newest_checkpoint() == (2, 2)
    made = Checkpoint(3, 7, START_US, "[1]")
    writer = store._writer  # type: ignore[attr-defined] # both stores have it
    await writer.call(lambda transaction: transaction.add_checkpoint("00000000", made))
    assert await store.newest_checkpoint() == (2, 2), "another epoch may have other records at these positions"


async def test_a_checkpoint_has_a_transaction_of_its_own(store: Store, workbench: Workbench) -> None:
    await insert(store, workbench, ("a", "1"))
    before = len(workbench.commits)
    inserts = [append(store, workbench.new()) for _ in range(20)]
    await asyncio.gather(*inserts[:10], store.make_checkpoint(1), *inserts[10:])
    published = [len(commit.published) for commit in workbench.commits[before:]]
    assert sum(published) == 20
    assert 0 in published, "the checkpoint was stored together with an insert"


async def test_what_is_pending_and_what_ends_make_the_state_of_the_future(store: Store, workbench: Workbench) -> None:
    def ending(us: int) -> dict[str, Any]:
        return {"until": f"{START_US + us}e-6", "until_us": START_US + us}

    await store.append(
        [
            workbench.new("ends", "1", **ending(20)),
            workbench.new("stays", "2"),
            workbench.new("changes", "3"),
            workbench.new("changes", "4", 30),
            workbench.new("changes", "5", 10, **ending(40)),  # is superseded before it ends
            workbench.new("is removed", "6"),
            workbench.new("is removed", "null", 10),
            workbench.new("comes", "8", 10, **ending(20)),
            workbench.new("null only", "null", 10),
            workbench.new("log only", "10", 10, log_only=True),
        ]
    )
    numbers = {"ends": 1, "stays": 2, "changes": 3, "is removed": 6}
    for us, changes in (
        (9, {}),
        (10, {"changes": 5, "comes": 8, "is removed": None}),
        (20, {"ends": None, "comes": None}),
        (30, {"changes": 4}),
        (40, {}),
    ):
        numbers = {event: number for event, number in {**numbers, **changes}.items() if number is not None}
        versions = await store.planned(START_US + us, pending=True)
        assert {event: number for event, _, number in versions} == numbers
        assert [event for event, _, _ in versions] == sorted(numbers)
        assert all((position is None) == (number in {4, 5, 8}) for _, position, number in versions)
    without = await store.planned(START_US + 20, pending=False)
    assert [event for event, _, _ in without] == ["changes", "is removed", "stays"]


async def test_records_are_read_by_their_numbers_within_a_bound(store: Store, workbench: Workbench) -> None:
    await insert(store, workbench, *[("a", f'"{n}{"x" * 96}"') for n in range(6)])
    size = 99 + RECORD_BYTES
    assert [record.number for record in await store.records([4, 2, 6], 10**6)] == [4, 2, 6]
    assert [record.number for record in await store.records([4, 2, 6], 2 * size)] == [4, 2]
    assert [record.number for record in await store.records([4, 2, 6], 1)] == [4]
    assert [record.position for record in await store.records([1], 1)] == [1]
    assert await store.records([], 10**6) == []


async def test_a_log_without_checkpoints_gets_them_in_the_background(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_SPACING", 10)
    monkeypatch.setattr(history, "_LOOK_S", 0.01)
    async with workbench.opened() as store:
        for n in range(8):
            workbench.now_us += 1
            await store.append([workbench.new(f"e{each}", "null" if n == each else "1") for each in range(5 + n)])
        total = (await store.head()).position
    async with running(workbench) as broker:
        await checkpoint_reaches(broker.store, total - 12)  # at most as far behind as there are events
        event_id = await broker.id_at(START_US + 1)
        assert event_id is not None
        versions, more = await broker.state_at(START_US + 1, event_id, Selection(limit=2), OPERATOR)
        assert (event_id.position, places(versions), more) == (5, [("e1", 2), ("e2", 3)], True)
    if not workbench.database:
        assert list(verify(workbench.folder / "broker.db", lambda _: None)) == []


async def test_the_state_is_refused_while_the_checkpoints_are_far_behind(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_BEHIND_MAX", 4)
    monkeypatch.setattr(history, "_LOOK_S", 0.01)
    monkeypatch.setattr(history, "_POSITIONS_PER_S", 5)
    async with running(workbench) as broker:
        await insert(broker.store, workbench, *[("a", "1")] * 4)
        assert await broker.id_at(START_US) is not None
        await insert(broker.store, workbench, *[("a", "1")] * 4)
        with pytest.raises(Unavailable, match="has reached the position 0 of 8") as refusal:
            await broker.id_at(START_US)
        assert refusal.value.retry_after_s == 2
        monkeypatch.setattr(history, "_SPACING", 5)
        broker.history._next = 0
        await checkpoint_reaches(broker.store, 5)
        assert await broker.id_at(START_US) is not None
        assert await broker.id_at(workbench.now_us + 1) is None


async def test_a_state_that_was_read_is_kept_for_the_next_page(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(workbench) as broker:
        await insert(broker.store, workbench, ("a", "1"), ("b", "2"), ("a", "3"))
        event_id = await broker.id_at(START_US + 2)
        first, more = await broker.state_at(START_US + 2, event_id, Selection(limit=1), OPERATOR)
        assert (places(first), more) == ([("a", 1)], True)
        versions = broker.history._versions
        second, more = await broker.state_at(START_US + 2, event_id, Selection(limit=1, after="a"), OPERATOR)
        assert (places(second), more) == ([("b", 2)], False)
        assert broker.history._versions is versions, "the store was asked again"


async def test_a_checkpoint_above_the_head_is_not_made(store: Store, workbench: Workbench) -> None:
    """A fail-over may have lost the position that the node wants a checkpoint of."""
    await insert(store, workbench, ("a", "1"), ("b", "2"))
    await store.make_checkpoint(3)
    assert await store.newest_checkpoint() == (0, 0)
    await insert(store, workbench, ("c", "3"))
    await store.make_checkpoint(3)
    assert await store.newest_checkpoint() == (3, 3)


async def test_records_that_a_fail_over_has_lost_end_the_response(workbench: Workbench) -> None:
    async with running(workbench) as broker:
        await insert(broker.store, workbench, ("a", "1"), ("b", "2"), ("c", "3"))
        for lost in ([Version("a", 1, 1), Version("b", 2, 99), Version("c", 3, 3)], [Version("z", 1, 1)]):
            with pytest.raises(Unavailable, match="has lost a part"):
                _ = [portion async for portion in broker.reads.versions(lost, OPERATOR, ())]


async def test_a_client_has_few_requests_for_other_times_at_once(workbench: Workbench) -> None:
    async with running(workbench) as broker:
        await insert(broker.store, workbench, ("a", "1"))
        asked = [broker.id_at(START_US, "192.0.2.1") for _ in range(6)] + [broker.id_at(START_US, "192.0.2.2")]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(each, Unavailable) for each in found] == [False] * 4 + [True] * 2 + [False]
