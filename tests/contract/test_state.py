"""What makes the state of an event: removals, versions that end, conditions, batches that cancel; over every store."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from broker.errors import BadRequest, Conflict, InsufficientStorage, Late, NotFound, PreconditionFailed
from broker.records import Cancel, EventId, NewRecord, Record
from broker.store.base import Store
from broker.users import Actor
from tests.support.store import START_US, Workbench, append, published

pytestmark = pytest.mark.anyio


def version(
    workbench: Workbench, data: str, later_us: int | None = None, ends_us: int | None = None, event: str = "e"
) -> NewRecord:
    """``later_us`` and ``ends_us`` count from now."""
    more: dict[str, object] = {"uuid_given": True}
    if ends_us is not None:
        more |= {"until": f"{workbench.now_us + ends_us}e-6", "until_us": workbench.now_us + ends_us}
    new = workbench.new(event, data, later_us, **more)
    return NewRecord(**{**{name: getattr(new, name) for name in new.__struct_fields__}, "uuid": uuid4()})


async def latest(store: Store) -> dict[str, tuple[int | None, str]]:
    return {record.event: (record.position, record.data.decode()) for record in (await store.snapshot()).latest}


async def log(store: Store, event: str = "e") -> list[Record]:
    return await store.log(event, None, 10**9, 10**9, descending=False)


# Removal


async def test_null_removes_an_event_and_frees_its_name_and_its_bytes(workbench: Workbench) -> None:
    async with workbench.opened(event_names_max=1, snapshot_bytes_max=10) as store:
        await append(store, workbench.new("a", '"12345678"'))
        with pytest.raises(InsufficientStorage, match="event_names_max"):
            await append(store, workbench.new("b"))
        await append(store, workbench.new("a", "null"))
        await append(store, workbench.new("b", '"12345678"'))
        with pytest.raises(InsufficientStorage, match="event_names_max"):
            await append(store, workbench.new("a"))
        assert await latest(store) == {"a": (2, "null"), "b": (3, '"12345678"')}
        assert [record.data for record in await log(store, "a")] == [b'"12345678"', b"null"]


async def test_a_later_insert_brings_a_removed_event_back(store: Store, workbench: Workbench) -> None:
    for data in ("1", "null", "2", "null", "3"):
        await append(store, workbench.new(data=data))
    assert await latest(store) == {"e": (5, "3")}


async def test_null_on_an_event_without_state_is_published_and_changes_nothing_else(workbench: Workbench) -> None:
    async with workbench.opened(event_names_max=1) as store:
        await append(store, workbench.new("unknown", "null"))
        await append(store, workbench.new("a"))
        await append(store, workbench.new("a", "null"))
        await append(store, workbench.new("a", "null"))
        assert await latest(store) == {"a": (3, "null")}
        assert await published(store) == [("unknown", "null"), ("a", "1"), ("a", "null"), ("a", "null")]
        await append(store, workbench.new("b"))  # the name is free


async def test_the_name_of_a_removed_event_counts_as_long_as_something_is_pending(workbench: Workbench) -> None:
    async with workbench.opened(event_names_max=1) as store:
        pending, _ = await append(store, workbench.new("a", later_us=10))
        await append(store, workbench.new("a", "2"))
        await append(store, workbench.new("a", "null"))
        with pytest.raises(InsufficientStorage):
            await append(store, workbench.new("b"))
        await store.cancel(pending.uuid, Actor(username="ada"))
        await append(store, workbench.new("b"))


async def test_a_scheduled_removal_takes_effect_when_it_is_due(store: Store, workbench: Workbench) -> None:
    await append(store, workbench.new())
    await append(store, workbench.new(data="null", later_us=10))
    assert await latest(store) == {"e": (1, "1")}
    workbench.now_us += 10
    await store.publish_due()
    assert await latest(store) == {"e": (2, "null")}


async def test_the_oldest_removals_are_forgotten_and_the_floor_says_so(workbench: Workbench) -> None:
    async with workbench.opened(removals_kept=2) as store:
        for name in ("a", "b", "c"):
            await append(store, workbench.new(name))
        for name in ("a", "b"):
            await append(store, workbench.new(name, "null"))
        assert (await store.snapshot()).removals_floor == 0
        await append(store, workbench.new("c", "null"))
        assert await latest(store) == {"b": (5, "null"), "c": (6, "null")}
        assert (await store.snapshot()).removals_floor == 4
    async with workbench.opened(removals_kept=2) as store:
        assert (await store.snapshot()).removals_floor == 4


# Versions that end


async def test_a_version_ends_at_its_time_with_a_record_of_its_own(store: Store, workbench: Workbench) -> None:
    sale, _ = await append(store, version(workbench, '"sale"', ends_us=10))
    assert await store.next_due() == START_US + 10
    workbench.now_us += 9
    await store.publish_due()
    assert await latest(store) == {"e": (1, '"sale"')}
    workbench.now_us += 5
    await store.publish_due()
    first, ending = await log(store)
    assert first.until_us == START_US + 10
    assert first.ends is None
    assert (ending.data, ending.user, ending.ends, ending.due_us) == (b"null", "ada", sale.uuid, START_US + 10)
    assert (ending.position, ending.published_us, ending.inserted_us) == (2, START_US + 14, START_US + 14)
    assert workbench.commits[-1].published == [ending]
    assert await store.next_due() is None
    await store.publish_due()
    assert len(await log(store)) == 2
    with pytest.raises(Conflict, match="published"):
        await store.cancel(ending.uuid, Actor(username="ada"))


async def test_nothing_happens_if_a_newer_version_came_first(store: Store, workbench: Workbench) -> None:
    await append(store, version(workbench, "1", ends_us=10))
    await append(store, workbench.new(data="2"))
    workbench.now_us += 20
    await store.publish_due()
    assert await published(store) == [("e", "1"), ("e", "2")]
    assert await store.next_due() is None


async def test_after_a_downtime_each_version_is_followed_by_its_end(store: Store, workbench: Workbench) -> None:
    """And a version that was superseded before its end has none."""
    await append(store, version(workbench, "1", 10, 20))
    await append(store, version(workbench, "2", 30, 40))
    await append(store, version(workbench, "3", 50, 70))
    await append(store, version(workbench, "4", 60, 80))
    workbench.now_us += 100
    await store.publish_due()
    assert [data for _, data in await published(store)] == ["1", "null", "2", "null", "3", "4", "null"]


async def test_a_publication_at_the_microsecond_of_an_end_comes_first(store: Store, workbench: Workbench) -> None:
    await append(store, version(workbench, "1", ends_us=10))
    await append(store, version(workbench, "2", 10))
    workbench.now_us += 10
    await store.publish_due()
    assert await published(store) == [("e", "1"), ("e", "2")]


async def test_an_insert_comes_after_an_end_that_was_due_before_it(store: Store, workbench: Workbench) -> None:
    await append(store, version(workbench, "1", ends_us=10))
    workbench.now_us += 10
    await append(store, workbench.new(data="2"))
    assert [data for _, data in await published(store)] == ["1", "null", "2"]


async def test_a_thousand_ends_among_publications_come_in_the_order_of_their_times(
    store: Store, workbench: Workbench
) -> None:
    news = [version(workbench, str(n), 2 * n + 1, 2 * n + 1500, f"e{n}") for n in range(1, 1200)]
    await store.append(news)
    workbench.now_us += 10_000
    await store.publish_due()
    expected = [(2 * n + 1, 0, n, str(n)) for n in range(1, 1200)]
    expected += [(2 * n + 1500, 1, n, "null") for n in range(1, 1200)]
    records = (await store.read(0, 10**9, 10_000, 10**9))[1]
    assert [(record.event, record.data.decode()) for record in records] == [
        (f"e{n}", data) for _, _, n, data in sorted(expected)
    ]


async def test_until_must_be_in_the_future_by_the_stores_clock(store: Store, workbench: Workbench) -> None:
    new = version(workbench, "1", ends_us=10)
    await append(store, new)
    workbench.now_us += 10
    with pytest.raises(BadRequest, match="until"):
        await append(store, version(workbench, "2", -20, -5))
    assert await append(store, new) == ((await log(store))[0], False)  # a repeated insert is answered first


async def test_until_is_part_of_what_a_repeated_uuid_must_match(store: Store, workbench: Workbench) -> None:
    first = version(workbench, "1", ends_us=10)
    await append(store, first)
    other = NewRecord(first.uuid, "e", b"1", "ada", uuid_given=True)
    with pytest.raises(Conflict):
        await append(store, other)


# Conditions


def given(event: str, data: str, if_latest: object) -> NewRecord:
    return NewRecord(uuid4(), event, data.encode(), "ada", uuid_given=True, if_latest=if_latest)  # type: ignore[arg-type]


async def test_an_insert_may_name_the_version_that_must_be_the_latest(store: Store, workbench: Workbench) -> None:
    first, _ = await append(store, given("e", "1", "none"))
    epoch = first.epoch
    second, _ = await append(store, given("e", "2", EventId(epoch, 1)))
    third, _ = await append(store, given("e", "3", second.uuid))
    for wrong in ("none", EventId(epoch, 2), second.uuid, uuid4(), EventId("00000000", 3), EventId(epoch, 9)):
        with pytest.raises(PreconditionFailed) as refused:
            await append(store, given("e", "4", wrong))
        assert refused.value.latest == third
    with pytest.raises(PreconditionFailed) as refused:
        await append(store, given("new", "1", third.uuid))
    assert refused.value.latest is None
    assert await latest(store) == {"e": (3, "3")}


async def test_a_removed_event_has_no_state_and_its_removal_is_the_latest(store: Store, workbench: Workbench) -> None:
    await append(store, workbench.new())
    removal, _ = await append(store, given("e", "null", EventId((await store.head()).epoch, 1)))
    with pytest.raises(PreconditionFailed) as refused:
        await append(store, given("e", "2", EventId(removal.epoch, 1)))
    assert refused.value.latest == removal
    await append(store, given("e", "2", removal.uuid))
    await append(store, given("e", "null", EventId(removal.epoch, 3)))
    await append(store, given("e", "3", "none"))


async def test_a_condition_is_judged_after_what_is_due(store: Store, workbench: Workbench) -> None:
    first, _ = await append(store, workbench.new())
    await append(store, workbench.new(data="2", later_us=10))
    workbench.now_us += 10
    with pytest.raises(PreconditionFailed):
        await append(store, given("e", "3", first.uuid))


async def test_conditions_build_on_each_other_within_a_batch(store: Store, workbench: Workbench) -> None:
    chain = [given("e", "0", "none")]
    for n in range(1, 50):
        chain.append(given("e", str(n), chain[-1].uuid))
    results = await store.append(chain)
    assert [created for _, created in results] == [True] * 50
    assert [record.position for record, _ in results] == list(range(1, 51))
    again = await store.append(chain)  # the answer was lost
    assert [created for _, created in again] == [False] * 50
    for new in chain[40:]:
        assert not (await append(store, new))[1]


async def test_a_batch_whose_condition_fails_stores_nothing(store: Store, workbench: Workbench) -> None:
    await append(store, workbench.new(data="1"))
    with pytest.raises(PreconditionFailed) as refused:
        await store.append([workbench.new(data="2"), workbench.new("other"), given("e", "3", "none")])
    assert refused.value.index == 2
    assert (refused.value.latest.data, refused.value.latest.position) == (b"1", 1)
    assert await published(store) == [("e", "1")]


async def test_a_condition_cannot_be_judged_for_the_future(store: Store, workbench: Workbench) -> None:
    new = version(workbench, "1", 10)
    fields = {name: getattr(new, name) for name in new.__struct_fields__}
    with pytest.raises(BadRequest, match="if_latest"):
        await append(store, NewRecord(**{**fields, "if_latest": "none"}))


async def test_late_records_are_refused_if_asked_for(store: Store, workbench: Workbench) -> None:
    def late(later_us: int, ends_us: int | None = None) -> NewRecord:
        new = version(workbench, json.dumps(later_us), later_us, ends_us)
        return NewRecord(**{**{name: getattr(new, name) for name in new.__struct_fields__}, "late_refused": True})

    await append(store, late(-5_000_000))
    for new in (late(-5_000_001), late(-20, -10)):
        with pytest.raises(Late):
            await append(store, new)
    assert len(await log(store)) == 1


# Batches that cancel


async def test_items_of_a_batch_act_in_order_also_on_what_the_batch_has_inserted(
    store: Store, workbench: Workbench
) -> None:
    old, _ = await append(store, workbench.new("old", later_us=10))
    new = version(workbench, "1", 20)
    results = await store.append([Cancel(old.uuid, "bob"), new, workbench.new("b"), Cancel(new.uuid, "bob")])
    assert [(record.cancelled, created) for record, created in results] == [
        (True, False), (False, True), (False, True), (True, False),
    ]  # fmt: skip
    assert await store.next_due() is None
    workbench.now_us += 30
    await store.publish_due()
    assert await published(store) == [("b", "1")]
    assert [record.cancelled for record in await log(store)] == [True]


async def test_a_batch_that_is_refused_cancels_nothing(store: Store, workbench: Workbench) -> None:
    old, _ = await append(store, workbench.new(later_us=10))
    for unknown in (uuid4(), (await append(store, workbench.new("x")))[0].uuid):
        with pytest.raises((NotFound, Conflict)) as refused:
            await store.append([workbench.new("b"), Cancel(old.uuid, "bob"), Cancel(unknown, "bob")])
        assert refused.value.index == 2
    workbench.now_us += 10
    await store.publish_due()
    assert await published(store) == [("x", "1"), ("e", "1")]


async def test_a_batch_is_repeated_safely_but_does_not_hide_what_somebody_else_has_cancelled(
    store: Store, workbench: Workbench
) -> None:
    old, _ = await append(store, workbench.new(later_us=10))
    move: list[NewRecord | Cancel] = [Cancel(old.uuid, "ada"), version(workbench, "2", 20)]
    await store.append(move)
    assert [created for _, created in await store.append(move)] == [False, False]
    with pytest.raises(Conflict) as refused:
        await store.append([Cancel(old.uuid, "ada"), version(workbench, "3", 20)])
    assert refused.value.index == 0
    assert [created for _, created in await store.append([Cancel(old.uuid, "ada")])] == [False]
    assert len(await log(store)) == 2
