"""What one user may take of the log's limits, over every store."""

from __future__ import annotations

import pytest

from broker.errors import InsufficientStorage, QuotaExceeded, TooManyRequests
from broker.records import Cancel, NewRecord, Record
from broker.store.base import Store
from broker.users import OPERATOR, Actor
from tests.support.store import Workbench, faults

pytestmark = pytest.mark.anyio


def by(user: str, workbench: Workbench, event: str, data: str = "1", later_us: int | None = None) -> NewRecord:
    return workbench.new(event, data, later_us, user=user, uuid_given=True)


async def insert(store: Store, *items: NewRecord | Cancel, user: str = "") -> list[Record]:
    """In the name of the records' author, to whom the limits apply."""
    name = user or items[0].user
    return [record for record, _ in await store.append(items, Actor(f"id-{name}", name))]


async def test_one_user_cannot_take_all_names_from_the_others(workbench: Workbench) -> None:
    async with workbench.opened(event_names_max=10, event_names_per_user_max=2) as store:
        await insert(store, by("eve", workbench, "a"), by("eve", workbench, "b"))
        with pytest.raises(
            QuotaExceeded, match=r"^2 events .* and 2 may count for one user \(event_names_per_user_max\)"
        ):
            await insert(store, by("eve", workbench, "c"))
        await insert(store, by("eve", workbench, "b", "2"))  # a name that is hers already
        await insert(store, by("ada", workbench, "c"))
        await insert(store, by("eve", workbench, "a", "null"))
        await insert(store, by("eve", workbench, "d"))


async def test_a_name_counts_for_whoever_has_inserted_the_latest_version(workbench: Workbench) -> None:
    async with workbench.opened(event_names_per_user_max=1) as store:
        await insert(store, by("ada", workbench, "a"))
        await insert(store, by("bob", workbench, "a", "2"))
        await insert(store, by("ada", workbench, "b"))
        for taken in ("c", "b"):
            with pytest.raises(QuotaExceeded):
                await insert(store, by("bob", workbench, taken))
        await insert(store, by("ada", workbench, "a", "null"))  # anybody's removal frees it
        await insert(store, by("bob", workbench, "c"))


async def test_a_removal_is_never_refused(workbench: Workbench) -> None:
    """Also by somebody who has as much as one user may have, and while something of the event is pending."""
    async with workbench.opened(event_names_per_user_max=1) as store:
        await insert(store, by("ada", workbench, "a"))
        await insert(store, by("bob", workbench, "a", "2", 10))
        await insert(store, by("eve", workbench, "b"))
        await insert(store, by("eve", workbench, "a", "null"))


async def test_one_user_cannot_take_all_the_bytes_from_the_others(workbench: Workbench) -> None:
    async with workbench.opened(snapshot_bytes_per_user_max=10) as store:
        await insert(store, by("eve", workbench, "a", '"12345678"'))
        with pytest.raises(
            QuotaExceeded, match=r"have 11 bytes with this one \(1 more\), and those of one user may have 10"
        ):
            await insert(store, by("eve", workbench, "b"))
        await insert(store, by("ada", workbench, "b", '"12345678"'))
        await insert(store, by("eve", workbench, "a", "1"))
        await insert(store, by("eve", workbench, "c", '"1234567"'))


async def test_what_is_pending_takes_its_bytes_already_and_gives_them_back(workbench: Workbench) -> None:
    async with workbench.opened(snapshot_bytes_per_user_max=10) as store:
        (pending,) = await insert(store, by("eve", workbench, "a", '"12345678"', 10))
        with pytest.raises(QuotaExceeded):
            await insert(store, by("eve", workbench, "b"))
        await insert(store, Cancel(pending.uuid, "eve"))
        await insert(store, by("eve", workbench, "b", '"12345678"'))


async def test_what_is_not_pending_any_more_is_not_reserved_either(workbench: Workbench) -> None:
    """A user who schedules something large and something small, and cancels the large one, would otherwise take the
    space of the snapshot again and again, without having anything in it."""
    async with workbench.opened(snapshot_bytes_max=40, snapshot_bytes_per_user_max=40) as store:
        for n in range(9):
            large, _ = await insert(
                store, by("eve", workbench, f"e{n}", '"12345678"', 10), by("eve", workbench, f"e{n}", "1", 1_000)
            )
            await insert(store, Cancel(large.uuid, "eve"))
        await insert(store, by("ada", workbench, "a", '"12345678"'))
        large, _ = await insert(
            store, by("ada", workbench, "b", '"12345678"', 10), by("ada", workbench, "b", "1", 1_000)
        )
        workbench.now_us += 20  # the large one is published, and replaced by a small one
        await insert(store, by("ada", workbench, "b", "1"))
        await insert(store, by("bob", workbench, "c", '"12345678"'))


async def test_what_somebody_schedules_on_the_events_of_others_counts_for_whoever_schedules_it(
    workbench: Workbench,
) -> None:
    """Its publication cannot be refused. So it counts from its insert on, whatever the event has reserved already."""
    async with workbench.opened(event_names_per_user_max=4, snapshot_bytes_per_user_max=40) as store:
        for n in range(3):
            await insert(store, by("ada", workbench, f"a{n}", '"12345678"'))
            await insert(store, by("eve", workbench, f"e{n}", '"12345678"'))
        await insert(store, by("eve", workbench, "a0", '"123456"', 10))
        with pytest.raises(QuotaExceeded, match=r"^4 events"):
            await insert(store, by("eve", workbench, "a1", "1", 10))
        workbench.now_us += 20
        with pytest.raises(QuotaExceeded, match=r"^4 events"):
            await insert(store, by("eve", workbench, "a1", "1"))
        await insert(store, by("ada", workbench, "a4"))  # a0 counts for eve now


async def test_nobody_can_make_somebody_else_pay(workbench: Workbench) -> None:
    """A small record far in the future keeps the name of an event, but for its own author."""
    async with workbench.opened(event_names_per_user_max=3, snapshot_bytes_per_user_max=30) as store:
        for n in range(3):
            await insert(store, by("ada", workbench, f"a{n}", '"12345678"'))
            await insert(store, by("eve", workbench, f"a{n}", "1", 1_000))
        await insert(store, by("ada", workbench, "a0", '"1"'))  # gives back seven bytes
        for n in range(3):
            await insert(store, by("ada", workbench, f"a{n}", "null"))
        for n in range(3):
            await insert(store, by("ada", workbench, f"b{n}", '"12345678"'))
        with pytest.raises(QuotaExceeded, match=r"^3 events"):
            await insert(store, by("eve", workbench, "c"))


async def test_one_user_has_so_many_pending_records_at_most(workbench: Workbench) -> None:
    async with workbench.opened(pending_per_user_max=2) as store:
        first, _ = await insert(store, by("eve", workbench, "a", "1", 10), by("eve", workbench, "a", "2", 20))
        with pytest.raises(QuotaExceeded, match="2 records of yours are pending, and one user may have 2"):
            await insert(store, by("eve", workbench, "a", "3", 30))
        await insert(store, by("ada", workbench, "a", "3", 30))
        await insert(store, by("eve", workbench, "a", "4"))
        await insert(store, Cancel(first.uuid, "eve"))
        await insert(store, by("eve", workbench, "a", "3", 30))
        workbench.now_us += 25  # one of the two is published
        await insert(store, by("eve", workbench, "a", "5", 30))


async def test_a_batch_that_is_refused_takes_nothing(workbench: Workbench) -> None:
    async with workbench.opened(event_names_per_user_max=2, pending_per_user_max=1) as store:
        await insert(store, by("ada", workbench, "shared"))
        for _ in range(3):
            with pytest.raises(QuotaExceeded) as refused:
                await insert(
                    store, by("eve", workbench, "shared"), by("eve", workbench, "a", "1", 10),
                    by("eve", workbench, "b", "1", 10),
                )  # fmt: skip
            assert refused.value.index == 2
        await insert(store, by("eve", workbench, "a"), by("eve", workbench, "b"))


async def test_a_repeated_insert_is_judged_by_no_quota(workbench: Workbench) -> None:
    async with workbench.opened(event_names_per_user_max=2, pending_per_user_max=1) as store:
        for new in (by("eve", workbench, "a"), by("eve", workbench, "a", "2", 10)):
            first = await insert(store, new)
            assert await insert(store, new) == first


async def test_the_operator_has_no_quota_and_broker_s_own_events_do_not_count(workbench: Workbench) -> None:
    async with workbench.opened(event_names_per_user_max=1, pending_per_user_max=1) as store:
        for n in range(3):
            await store.append([by("", workbench, f"e{n}"), by("", workbench, f"e{n}", "2", 10)], OPERATOR)


async def test_the_limits_of_the_log_hold_for_everybody_together(workbench: Workbench) -> None:
    async with workbench.opened(event_names_max=2, event_names_per_user_max=2) as store:
        await insert(store, by("ada", workbench, "a"), by("ada", workbench, "b"))
        with pytest.raises(InsufficientStorage, match="event_names_max"):
            await insert(store, by("eve", workbench, "c"))


async def test_by_default_one_user_has_half_of_what_the_log_has(workbench: Workbench) -> None:
    async with workbench.opened(event_names_max=5, snapshot_bytes_max=100) as store:
        for n in range(3):
            await insert(store, by("eve", workbench, f"e{n}"))
        with pytest.raises(QuotaExceeded, match="and 3 may count for one user"):
            await insert(store, by("eve", workbench, "e3"))
        with pytest.raises(QuotaExceeded, match="those of one user may have 50"):
            await insert(store, by("eve", workbench, "e2", f'"{"x" * 60}"'))


async def test_quotas_survive_a_restart_and_there_is_no_fault(workbench: Workbench) -> None:
    async with workbench.opened(event_names_per_user_max=2) as store:
        await insert(store, by("eve", workbench, "a"), by("eve", workbench, "b", "1", 10))
    async with workbench.opened(event_names_per_user_max=2) as store:
        with pytest.raises(QuotaExceeded, match=r"^2 events"):
            await insert(store, by("eve", workbench, "c"))
    if not workbench.database:
        assert faults(workbench.folder) == []


async def test_one_user_cannot_take_all_of_the_queue(workbench: Workbench) -> None:
    async with workbench.opened(inserts_waiting_per_user_max=10, batch_records_max=10) as store:
        eve, ada = (Actor(f"id-{name}", name) for name in ("eve", "ada"))
        ten = [by("eve", workbench, "e", str(n)) for n in range(10)]
        accepted = store.append(ten, eve, "eve")
        with pytest.raises(TooManyRequests, match="10 inserts of this user are waiting") as refused:
            store.append(ten[:1], eve, "eve")
        assert refused.value.retry_after_s == 1
        await store.append([by("ada", workbench, "a")], ada, "ada")
        await accepted
        await store.append([by("eve", workbench, "e", "10")], eve, "eve")
