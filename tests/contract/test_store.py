"""The contract of ``store/base.py``, over every store."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from uuid import UUID, uuid4

import pytest

from broker.errors import BrokerError, Conflict, InsufficientStorage, NotFound, Unavailable
from broker.records import NewRecord, make_uuid
from broker.store.base import Store
from broker.users import Actor, User
from tests.support.store import START_US, Workbench, append, positions, published, read

pytestmark = pytest.mark.anyio


async def test_positions_are_contiguous_and_in_commit_order_also_for_inserts_at_once(
    store: Store, workbench: Workbench
) -> None:
    results = await asyncio.gather(*[append(store, workbench.new(data=str(n))) for n in range(300)])
    assert await positions(store) == list(range(1, 301))
    assert sorted(record.position or 0 for record, _ in results) == list(range(1, 301))
    assert (await store.head()).position == 300


async def test_what_was_acknowledged_is_there_after_reopening(store: Store, workbench: Workbench) -> None:
    await append(store, workbench.new(data='"first"'))
    await append(store, workbench.new("later", later_us=10))
    epoch = (await store.head()).epoch
    await store.stop()
    async with workbench.opened() as again:
        assert (await again.head()).epoch == epoch
        assert await published(again) == [("e", '"first"')]
        assert await again.next_due() == START_US + 10


async def test_every_writing_transaction_first_publishes_what_is_due(store: Store, workbench: Workbench) -> None:
    await append(store, workbench.new(data='"second"', later_us=20))
    await append(store, workbench.new(data='"first"', later_us=10))
    await append(store, workbench.new(data='"third"', later_us=20))
    workbench.now_us += 20
    await append(store, workbench.new(data='"newest"'))
    assert [data for _, data in await published(store)] == ['"first"', '"second"', '"third"', '"newest"']


async def test_nothing_is_published_early_and_nothing_twice(store: Store, workbench: Workbench) -> None:
    await append(store, workbench.new(later_us=10))
    workbench.now_us += 9
    await store.publish_due()
    assert await positions(store) == []
    workbench.now_us += 1
    await asyncio.gather(*[store.publish_due() for _ in range(20)])
    assert await positions(store) == [1]


async def test_more_due_than_a_page_is_published_in_order_in_one_go(store: Store, workbench: Workbench) -> None:
    await asyncio.gather(*[append(store, workbench.new(data=str(n), later_us=3000 - n)) for n in range(2500)])
    workbench.now_us += 3000
    await store.publish_due()
    rows = await read(store, 0)
    assert [record.data for record in rows] == [str(n).encode() for n in reversed(range(2500))]
    assert workbench.commits[-1].head == 2500
    assert workbench.commits[-1].published == []  # too many for a hint
    assert workbench.commits[-1].next_due_us is None


async def test_a_record_dated_in_the_past_is_published_at_once(store: Store, workbench: Workbench) -> None:
    record, _ = await append(store, workbench.new(later_us=-5))
    assert record.position == 1
    assert record.published_us == START_US
    assert workbench.commits[-1].published[0].position == 1


async def test_a_log_only_record_has_no_position_and_is_never_the_latest(store: Store, workbench: Workbench) -> None:
    now, _ = await append(store, workbench.new(log_only=True))
    later, _ = await append(store, workbench.new(log_only=True, later_us=5))
    workbench.now_us += 10
    await store.publish_due()
    assert now.position is later.position is None
    assert (await store.snapshot()).latest == []
    with pytest.raises(Conflict, match="log-only"):
        await store.cancel(later.uuid, Actor(username="ada"))


async def test_a_cancelled_record_is_never_published_and_cancelling_again_is_fine(
    store: Store, workbench: Workbench
) -> None:
    record, _ = await append(store, workbench.new(later_us=10))
    first = await store.cancel(record.uuid, Actor(username="ada"))
    again = await store.cancel(record.uuid, Actor(username="bob"))
    assert first.cancelled
    assert again == first
    workbench.now_us += 20
    await store.publish_due()
    assert await positions(store) == []
    assert await store.next_due() is None


async def test_a_cancel_at_the_due_time_is_too_late(store: Store, workbench: Workbench) -> None:
    record, _ = await append(store, workbench.new(later_us=10))
    workbench.now_us += 10
    with pytest.raises(Conflict, match="published"):
        await store.cancel(record.uuid, Actor(username="ada"))
    assert await positions(store) == [1]  # by the cancel's own transaction


async def test_cancelling_what_is_unknown_is_refused(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.cancel(uuid4(), Actor(username="ada"))


async def test_a_repeated_insert_answers_the_first_record(store: Store, workbench: Workbench) -> None:
    new = workbench.new(later_us=10, uuid_given=True)
    first, created = await append(store, new)
    workbench.now_us += 10  # falls due meanwhile: the answer shows it
    again, created_again = await append(store, new)
    assert (created, created_again) == (True, False)
    assert again.number == first.number
    assert again.position == 1


async def test_of_equal_inserts_at_once_the_first_wins(store: Store, workbench: Workbench) -> None:
    new = workbench.new(uuid_given=True)
    results = await asyncio.gather(*[append(store, new) for _ in range(50)])
    assert sum(created for _, created in results) == 1
    assert {record.number for record, _ in results} == {1}


@pytest.mark.parametrize("field", ["event", "data", "user", "due_us", "log_only", "until_us"])
async def test_a_known_uuid_with_anything_else_is_a_conflict_and_fails_no_other(
    store: Store, workbench: Workbench, field: str
) -> None:
    changed = {"event": "x", "data": b"2", "user": "bob", "due_us": 5, "log_only": True, "until_us": 2**60}
    new = workbench.new(later_us=-10, uuid_given=True)
    fields = {name: getattr(new, name) for name in ("uuid", "event", "data", "user", "timestamp", "due_us", "log_only")}
    other = NewRecord(**{**fields, field: changed[field]}, uuid_given=True)
    await append(store, new)
    results = await asyncio.gather(append(store, other), append(store, workbench.new()), return_exceptions=True)
    assert isinstance(results[0], Conflict)
    assert not isinstance(results[1], BaseException)


async def test_the_snapshot_is_the_latest_of_every_event_in_position_order(store: Store, workbench: Workbench) -> None:
    for event, data in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("b", "5")]:
        await append(store, workbench.new(event, data))
    await append(store, workbench.new("d", later_us=10))
    state = await store.snapshot()
    assert state.head.position == 5
    assert [(each.position, each.event, each.data) for each in state.latest] == [
        (3, "a", b"3"),
        (4, "c", b"4"),
        (5, "b", b"5"),
    ]


async def test_reading_is_bounded_by_records_bytes_and_position(store: Store, workbench: Workbench) -> None:
    for n in range(10):
        await append(store, workbench.new(data=f'"{n}{"x" * 97}"'))
    assert [each.position for each in await read(store, 2, 7, 100, 10**6)] == [3, 4, 5, 6, 7]
    assert len(await read(store, 0, 10, 4, 10**6)) == 4
    assert len(await read(store, 0, 10, 100, 1_500)) == 3
    assert len(await read(store, 0, 10, 100, 1)) == 1
    assert await store.span_bytes(2, 7) == 500
    assert await store.span_bytes(0, 10) == 1000


async def test_a_page_of_tiny_records_is_bounded_too(store: Store, workbench: Workbench) -> None:
    await asyncio.gather(*[append(store, workbench.new(data="1")) for _ in range(300)])
    assert len(await store.log("e", None, 300, 100_000, False)) < 200
    assert len(await read(store, 0, 300, 1000, 100_000)) < 200


async def test_the_log_of_an_event_has_all_states_and_pages_both_ways(store: Store, workbench: Workbench) -> None:
    records = [(await append(store, workbench.new("a", str(n), later_us=n * 10)))[0] for n in range(5)]
    await append(store, workbench.new("b"))
    await append(store, workbench.new("a", '"only"', log_only=True))
    await store.cancel(records[3].uuid, Actor(username="ada"))
    page = await store.log_end("a", None, None, False)
    assert page.last is not None
    assert not page.more
    log = await store.log("a", None, page.last, 10**6, False)
    assert [(each.position, each.cancelled, each.log_only) for each in log] == [
        (1, False, False),
        (None, False, False),
        (None, False, False),
        (None, True, False),
        (None, False, False),
        (None, False, True),
    ]
    after = await store.number_of("a", records[1].uuid)
    assert await store.number_of("b", records[1].uuid) is None
    page = await store.log_end("a", after, 2, False)
    assert (page.last_uuid, page.more) == (records[3].uuid, True)
    assert [each.uuid for each in await store.log("a", after, page.last or 0, 10**6, False)] == [
        records[2].uuid,
        records[3].uuid,
    ]
    page = await store.log_end("a", after, 2, True)
    assert (page.last_uuid, page.more) == (records[0].uuid, False)
    assert [each.uuid for each in await store.log("a", after, page.last or 0, 10**6, True)] == [records[0].uuid]
    assert (await store.log_end("none", None, 5, False)).last is None


async def test_too_many_event_names_are_refused_and_known_ones_still_work(workbench: Workbench) -> None:
    async with workbench.opened(event_names_max=2) as store:
        await append(store, workbench.new("a"))
        pending, _ = await append(store, workbench.new("b", later_us=10))
        with pytest.raises(InsufficientStorage, match="event_names_max") as refusal:
            await append(store, workbench.new("c"))
        assert not re.search(r"[0-9]", str(refusal.value)), "it counts what others did"
        await append(store, workbench.new("c", log_only=True))
        await append(store, workbench.new("a", "2"))
        await store.cancel(pending.uuid, Actor(username="ada"))  # gives its name back
        await append(store, workbench.new("c"))
        with pytest.raises(InsufficientStorage):
            await append(store, workbench.new("d"))


async def test_the_snapshot_stays_within_its_bytes_whatever_is_pending(workbench: Workbench) -> None:
    async with workbench.opened(snapshot_bytes_max=100) as store:
        await append(store, workbench.new("a", "1" * 60))
        large, _ = await append(store, workbench.new("a", "1" * 90, later_us=10))  # may become the latest
        with pytest.raises(InsufficientStorage, match="snapshot_bytes_max") as refusal:
            await append(store, workbench.new("b", "1" * 20))
        assert not re.search(r"[0-9]", str(refusal.value)), "it counts what others did"
        await append(store, workbench.new("a", "1" * 50))
        await store.cancel(large.uuid, Actor(username="ada"))  # now a's latest counts 50
        await append(store, workbench.new("b", "1" * 50))
        with pytest.raises(InsufficientStorage):
            await append(store, workbench.new("b", "1" * 51))
        await append(store, workbench.new("b", "1"))
        await append(store, workbench.new("c", "1" * 49))


async def test_a_batch_has_contiguous_positions_in_its_order_among_other_writers(
    store: Store, workbench: Workbench
) -> None:
    batches = [[workbench.new(f"e{batch}", str(n)) for n in range(20)] for batch in range(30)]
    work = [store.append(batch) for batch in batches] + [store.append([workbench.new()]) for _ in range(30)]
    for appended in (await asyncio.gather(*work))[:30]:
        first = appended[0][0].position
        assert first is not None
        assert [record.position for record, _ in appended] == list(range(first, first + 20))
        assert [record.data for record, _ in appended] == [b"%d" % n for n in range(20)]
    assert await positions(store) == list(range(1, 631))


async def test_a_batch_with_a_bad_record_stores_nothing_and_names_the_first_bad_one(
    store: Store, workbench: Workbench
) -> None:
    first, _ = await append(store, workbench.new("a"))
    other = NewRecord(first.uuid, "a", b"2", "ada", uuid_given=True)
    bad = [
        workbench.new("a"),
        workbench.new("b"),
        workbench.new("b", later_us=10),
        workbench.new("c", log_only=True),
        other,
        other,
    ]
    # In one transaction with two that go through.
    results = await asyncio.gather(
        append(store, workbench.new("a")), store.append(bad), append(store, workbench.new("d")), return_exceptions=True
    )
    assert isinstance(results[1], Conflict)
    assert results[1].index == 4
    assert await positions(store) == [1, 2, 3]
    assert [event for event, _ in await published(store)] == ["a", "a", "d"]
    workbench.now_us += 10
    await store.publish_due()
    assert await positions(store) == [1, 2, 3]
    assert workbench.commits[-1].next_due_us is None
    for event in "bc":
        assert (await store.log_end(event, None, None, False)).last is None
    # What it had counted is taken back, too: positions go on without a hole.
    assert (await append(store, workbench.new("b")))[0].position == 4


async def test_a_batch_that_does_not_fit_into_the_snapshot_takes_none_of_its_room(workbench: Workbench) -> None:
    async with workbench.opened(snapshot_bytes_max=100) as store:
        await append(store, workbench.new("a", "1" * 10))
        two = [workbench.new("a", "1" * 40), workbench.new("b", "1" * 50, later_us=5)]
        with pytest.raises(InsufficientStorage) as refused:
            await store.append([*two, workbench.new("c", "1" * 20)])
        assert refused.value.index == 2
        await store.append([*two, workbench.new("c", "1" * 10)])
        with pytest.raises(InsufficientStorage):
            await append(store, workbench.new("d", "1"))


async def test_a_batch_with_too_many_new_events_takes_none_of_their_names(workbench: Workbench) -> None:
    async with workbench.opened(event_names_max=2) as store:
        with pytest.raises(InsufficientStorage) as refused:
            await store.append([workbench.new(name) for name in "aabc"])
        assert refused.value.index == 3
        await store.append([workbench.new(name) for name in "ddee"])


async def test_a_batch_sent_again_is_answered_with_its_first_records(store: Store, workbench: Workbench) -> None:
    batch = [NewRecord(uuid4(), "a", b"%d" % n, "ada", uuid_given=True) for n in range(5)]
    first = await store.append([*batch, batch[0]])  # within a batch, too
    assert [created for _, created in first] == [True] * 5 + [False]
    assert first[5][0] == first[0][0]
    more = workbench.new("b")
    again = await store.append([*batch, more])
    assert [created for _, created in again] == [False] * 5 + [True]
    assert [record for record, _ in again[:5]] == [record for record, _ in first[:5]]
    assert await positions(store) == [1, 2, 3, 4, 5, 6]


async def test_more_waiting_writes_than_the_queue_holds_are_refused_and_the_others_done(workbench: Workbench) -> None:
    async with workbench.opened(insert_queue_max=10, batch_records_max=10) as store:
        results = await asyncio.gather(*[append(store, workbench.new()) for _ in range(50)], return_exceptions=True)
        refused = [each for each in results if isinstance(each, Unavailable)]
        assert len(refused) == 40
        assert refused[0].retry_after_s == 1
        assert await positions(store) == list(range(1, 11))


async def test_more_bytes_than_the_queue_holds_are_refused_and_the_others_done(workbench: Workbench) -> None:
    async with workbench.opened(insert_queue_bytes_max=100, body_bytes_max=100) as store:
        results = await asyncio.gather(
            *[append(store, workbench.new(data="1" * 60)) for _ in range(3)], return_exceptions=True
        )
        assert [isinstance(each, Unavailable) for each in results] == [False, True, True]
        await append(store, workbench.new(data="1" * 60))


async def test_a_caller_that_went_away_leaves_the_writer_running(store: Store, workbench: Workbench) -> None:
    task = asyncio.ensure_future(append(store, workbench.new()))
    await asyncio.sleep(0)
    task.cancel()
    await append(store, workbench.new())
    assert await positions(store) == [1, 2]


async def test_stop_finishes_what_was_accepted_and_refuses_more(store: Store, workbench: Workbench) -> None:
    tasks = [asyncio.ensure_future(append(store, workbench.new())) for _ in range(100)]
    await asyncio.sleep(0)
    await store.stop()
    assert [(await task)[0].position for task in tasks] == list(range(1, 101))
    with pytest.raises(Unavailable):
        await append(store, workbench.new())
    with pytest.raises(Unavailable):
        await store.head()


async def test_hints_come_in_commit_order_and_before_the_answer(store: Store, workbench: Workbench) -> None:
    for n in range(1, 6):
        await append(store, workbench.new())
        assert workbench.commits[-1].head == n
    await append(store, workbench.new(later_us=7))
    assert workbench.commits[-1].next_due_us == START_US + 7


async def test_user_names_are_unique_without_regard_to_case(store: Store) -> None:
    users = [User(str(n), name, b'{"n": 1}', "hash") for n, name in enumerate(["Ada", "ada", "ADA"])]
    results = await asyncio.gather(*[store.add_user(user) for user in users], return_exceptions=True)
    assert [type(result) for result in results] == [type(None), Conflict, Conflict]
    assert await store.user_by_name("aDa") == users[0]
    assert await store.user_by_id("0") == users[0]
    assert await store.user_by_id("1") is None
    assert await store.user_by_name("bob") is None


async def test_a_value_that_a_store_cannot_take_is_no_outage(
    store: Store, workbench: Workbench, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is called out of bed for it, and nobody is asked to try again."""
    unfit = User(str(uuid4()), "a\ud800", b"null", "hash")  # half a surrogate pair; and a NUL, for PostgreSQL alone
    for call in (partial(store.add_user, unfit), partial(store.append, [workbench.new(event="a\ud800")])):
        with pytest.raises(BrokerError) as refusal:
            await call()
        assert refusal.value.status == 500
    if workbench.database:
        with pytest.raises(BrokerError) as refusal:
            await store.user_by_name("a\0b")
        assert refusal.value.status == 500
    assert "continue by themselves" not in caplog.text
    assert "it works again" not in caplog.text
    assert caplog.text.count("although the store can be used") == (3 if workbench.database else 2)
    await store.append([workbench.new()])


async def test_the_current_epoch_has_not_ended(store: Store) -> None:
    assert await store.epochs() == {(await store.head()).epoch: None}


def test_uuids_of_one_millisecond_differ_and_are_version_7() -> None:
    uuids = {make_uuid(5) for _ in range(1000)}
    assert len(uuids) == 1000
    assert {(uuid.version, uuid.variant) for uuid in uuids} == {(7, UUID(int=2 << 62).variant)}
