"""Whose view of the rights counts: that of the node, if it has read as far as the store; otherwise the store's. And
what a transaction publishes counts for everything behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import pairwise
from uuid import uuid4

import pytest

from broker.errors import BrokerError, Forbidden, NotFound, Unauthorized
from broker.names import RULES_EVENT, USER_EVENT
from broker.records import Cancel, Record
from broker.rules.rights import Rights, Version, encode_rules, is_rights_event
from broker.rules.rules import Pattern, Rule, Rules
from broker.rules.who import If, Public, Term, Who
from broker.store.base import Store
from broker.users import STRANGER_ACTOR, Actor, UserState
from tests.support.people import ADA, BOB, EVE, People, people_in
from tests.support.store import Workbench, faults, read

pytestmark = pytest.mark.anyio

OPEN = '[[event]]\nname = "a/*"\ninsert = "user"\ncancel = "user"\n'
CLOSED = '[[event]]\nname = "a/*"\ninsert = "nobody"\n'
MEMBERS = """
[[event]]
name = "room/{owner}/member/{who}"
insert = ["{owner}", "{who} and if room/{owner}/member/{who}"]
[[event]]
name = "room/{owner}/message/{from}"
insert = "{from} and if room/{owner}/member/{from}"
"""
MEMBER, MESSAGE = "room/ada/member/bob", "room/ada/message/bob"


@pytest.fixture
async def people(workbench: Workbench) -> AsyncIterator[People]:
    async with people_in(workbench) as people:
        yield people


async def advance(rights: Rights, store: Store) -> None:
    """Does what the relay of a node does: reads what changes rights, up to the head."""
    for record in await read(store, rights.version.position):
        if is_rights_event(record.event):
            assert record.position is not None
            rights.apply(record.event, record.data, Version(record.epoch, record.position))


async def outcomes(people: People, *batches: tuple[Actor, list[str]]) -> list[str]:
    """Inserts these events, all in one transaction, and returns "" or the name of the error of each batch."""
    commits = len(people.bench.commits)
    news = [([people.new(event, who=actor.username) for event in events], actor) for actor, events in batches]
    appends = (people.store.append(new, actor) for new, actor in news)
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert len(people.bench.commits) == commits + 1
    return [type(result).__name__ if isinstance(result, BrokerError) else "" for result in results]


class TestTheViewOfANode:
    async def test_it_decides_the_same_as_the_store_once_it_has_read_as_far(self, workbench: Workbench) -> None:
        rights = Rights()
        async with people_in(workbench, OPEN, rights) as people:
            await people.state(EVE, disabled=True)
            await people.state(BOB, gen=1, roles=("admin",))
            old, new = BOB, BOB._replace(gen=1)
            asked = [(ADA, ["a/1"]), (ADA, ["b"]), (EVE, ["a/1"]), (old, ["b"]), (new, ["b"])]
            expected = ["", "Forbidden", "Unauthorized", "Unauthorized", ""]
            assert await outcomes(people, *asked) == expected
            await advance(rights, people.store)
            assert rights.version.position > 0
            assert await outcomes(people, *asked) == expected

    async def test_one_that_would_permit_more_than_the_store_does_not_count(self, workbench: Workbench) -> None:
        rights = Rights()
        async with people_in(workbench, OPEN, rights) as people:
            await advance(rights, people.store)
            await people.insert("a/1", "1", BOB)
            await people.set_rules(CLOSED)
            with pytest.raises(Forbidden):
                await people.insert("a/1", "1", BOB)
            await advance(rights, people.store)
            await people.state(BOB, disabled=True)
            with pytest.raises(Unauthorized):
                await people.insert("a/1", "1", BOB)

    async def test_one_that_would_permit_less_than_the_store_does_not_count(self, workbench: Workbench) -> None:
        rights = Rights()
        async with people_in(workbench, CLOSED, rights) as people:
            await people.state(BOB, disabled=True)
            await advance(rights, people.store)
            await people.state(BOB, disabled=False)
            await people.set_rules(OPEN)
            await people.insert("a/1", "1", BOB)

    async def test_one_of_another_epoch_does_not_count(self, workbench: Workbench) -> None:
        rights = Rights()
        async with people_in(workbench, CLOSED, rights) as people:
            await advance(rights, people.store)
            rights.apply(RULES_EVENT, encode_rules(OPEN), rights.version._replace(epoch="00000000"))
            with pytest.raises(Forbidden):
                await people.insert("a/1", "1", BOB)


class TestOneTransaction:
    async def test_what_is_behind_new_rules_is_judged_by_them(self, people: People) -> None:
        rules = people.new(RULES_EVENT, encode_rules(CLOSED).decode())
        commits = len(people.bench.commits)
        before, _, after = await asyncio.gather(
            people.store.append([people.new("a/1", who="bob")], BOB),
            people.store.append([rules]),
            people.store.append([people.new("a/1", who="bob")], BOB),
            return_exceptions=True,
        )
        assert len(people.bench.commits) == commits + 1
        assert isinstance(before, list)
        assert isinstance(after, Forbidden)

    async def test_what_is_behind_a_change_of_its_user_is_refused(self, people: People) -> None:
        await people.set_rules(OPEN)
        results = await asyncio.gather(
            people.store.append([people.new("a/1", who="bob")], BOB),
            people.state(BOB, disabled=True),
            people.store.append([people.new("a/2", who="bob")], BOB),
            return_exceptions=True,
        )
        log = [record.event for record in await read(people.store, 0)]
        assert not {"a/1", "a/2"}.intersection(log[log.index(f"{USER_EVENT}{BOB.user_id}") :])
        assert [type(result) for result in results if isinstance(result, BrokerError)] in ([], [Unauthorized])
        with pytest.raises(Unauthorized):
            await people.insert("a/1", "1", BOB)

    @pytest.mark.parametrize("read_as_far", [True, False])
    async def test_whoever_has_just_lost_a_role_gives_none_to_others(
        self, workbench: Workbench, *, read_as_far: bool
    ) -> None:
        rights = Rights()
        async with people_in(workbench, OPEN, rights) as people:
            await people.state(BOB, roles=("admin",))
            if read_as_far:
                await advance(rights, people.store)
            commits = len(workbench.commits)
            _, _, refused = await asyncio.gather(
                people.insert("b", "1", BOB),
                people.state(BOB, roles=()),
                people.store.change_user(
                    EVE.user_id, lambda user: replace(user, state=UserState(roles=("admin",))), BOB
                ),
                return_exceptions=True,
            )
            assert len(workbench.commits) == commits + 1
            assert isinstance(refused, Forbidden)

    async def test_rules_that_come_due_count_for_what_is_inserted_then(self, people: People) -> None:
        await people.set_rules(CLOSED, 1_000)
        await people.insert("a/1", "1", BOB)
        people.bench.now_us += 2_000
        with pytest.raises(Forbidden):
            await people.insert("a/1", "1", BOB)

    async def test_a_batch_that_was_refused_gives_no_right_to_those_behind_it(self, people: People) -> None:
        await people.set_rules(MEMBERS)
        refused = (ADA, [MEMBER, "room/eve/member/ada"])
        assert await outcomes(people, refused, (BOB, [MESSAGE])) == ["Forbidden", "Forbidden"]
        assert await outcomes(people, refused, (ADA, [MEMBER]), (BOB, [MESSAGE])) == ["Forbidden", "", ""]

    async def test_rules_in_a_batch_that_was_refused_do_not_count(self, people: People) -> None:
        await people.set_rules(OPEN)
        rights = (await people.store.head()).position
        rules = people.new(RULES_EVENT, encode_rules(CLOSED).decode())
        condition = people.new("a/1", if_latest=people.bench.new().uuid)
        refused, accepted = await asyncio.gather(
            people.store.append([rules, condition]),
            people.store.append([people.new("a/1", who="bob")], BOB),
            return_exceptions=True,
        )
        assert isinstance(refused, BrokerError)
        assert isinstance(accepted, list)
        await people.insert("a/1", "1", BOB)
        assert [record.event for record in await read(people.store, rights)] == ["a/1", "a/1"]
        if not people.bench.database:
            assert faults(people.bench.folder) == []


class TestCancelling:
    async def test_it_takes_a_user_also_without_rules(self, people: People) -> None:
        pending = await people.insert("a", "1", ADA, 1_000)
        with pytest.raises(NotFound):
            await people.store.append([Cancel(pending.uuid, "")], STRANGER_ACTOR)
        assert (await people.store.cancel(pending.uuid, BOB)).cancelled

    @pytest.mark.parametrize("term", [If(("gate", "x")), Public()])
    async def test_a_stranger_finds_nothing_to_cancel_whatever_the_rules_say(
        self, workbench: Workbench, term: Term
    ) -> None:
        rights = Rights()
        async with people_in(workbench, OPEN, rights) as people:
            await people.insert("gate/x", "true", None)
            pending = await people.insert("a/1", "1", ADA, 1_000)
            await advance(rights, people.store)
            # The file of rules may refuse such a table, so the node's view has it without a file.
            rights.rules = Rules((Rule(Pattern(("a", "*")), {"cancel": Who((frozenset({term}),))}),))
            for uuid in (pending.uuid, uuid4()):
                with pytest.raises(NotFound, match=f"no record has the uuid {uuid}"):
                    await people.store.append([Cancel(uuid, "")], STRANGER_ACTOR)
            assert (await people.store.cancel(pending.uuid, BOB)).cancelled

    async def test_whoever_has_no_right_to_it_finds_nothing_that_is_cancelled_or_log_only(self, people: People) -> None:
        cancelled = await people.insert("b", "1", ADA, 1_000)
        await people.store.cancel(cancelled.uuid, ADA)
        log_only = await people.insert("b", "1", ADA, log_only=True)
        await people.set_rules(OPEN)
        for record in (cancelled, log_only):
            with pytest.raises(NotFound, match=f"no record has the uuid {record.uuid}"):
                await people.store.cancel(record.uuid, EVE)


class TestWhatComesDue:
    async def test_rules_that_cannot_be_used_are_cancelled_and_stop_nothing(self, people: People) -> None:
        """Also as the first rules of a log: a newer version of Broker may have scheduled them."""
        for _ in range(2):
            await people.insert("a/1", "1", BOB, 2_000)
            await people.insert(RULES_EVENT, '{"format":9,"toml":""}', None, 1_000)
            await people.publish_due_after(5_000)
            await people.set_rules(OPEN)
        assert [record.cancelled for record in await people.log("a/1")] == [False, False]
        rules = await people.log(RULES_EVENT)
        assert [record.cancelled for record in rules] == [True, False, True, False]
        assert {record.reason for record in rules if record.cancelled} == {
            "$rules: the format 9 is not known to this version of Broker"
        }

    async def test_each_record_sees_what_those_before_it_have_left(self, people: People) -> None:
        await people.set_rules(MEMBERS)
        await people.insert(MEMBER, "1", ADA)
        for later_us, data in ((1_000, "1"), (3_000, "3")):
            await people.insert(MESSAGE, data, BOB, later_us)
        await people.insert(MEMBER, "false", ADA, 2_000)
        await people.publish_due_after(9_000)
        assert [record.cancelled for record in await people.log(MESSAGE)] == [False, True]

    async def test_what_nobody_has_inserted_is_judged_as_that_of_a_stranger(self, people: People) -> None:
        await people.set_rules(OPEN + '[[event]]\nname = "contact/*"\ninsert = "public"\nrate = "9/minute"\n'
                               "max_bytes = 9\n")  # fmt: skip
        await people.insert("contact/1", "1", STRANGER_ACTOR, 1_000)
        await people.insert("a/1", "1", None, 1_000)
        await people.publish_due_after(2_000)
        assert [(await people.log(event))[0].cancelled for event in ("contact/1", "a/1")] == [False, True]

    async def test_its_data_and_once_are_judged_again(self, people: People) -> None:
        await people.insert("a/1", "12345", BOB, 1_000)
        for _ in range(2):
            await people.insert("b", "1", BOB, 1_000)
        await people.set_rules(OPEN + "max_bytes = 4\n" + '[[event]]\nname = "b"\ninsert = "user"\nonce = true\n')
        await people.publish_due_after(2_000)
        reasons = [record.reason for event in ("a/1", "b") for record in await people.log(event)]
        assert reasons == [
            "its data has more than 4 bytes (max_bytes of its rule)",
            None,
            "the event has state already, and its rule permits only one insert (once)",
        ]

    async def test_whoever_is_not_there_has_no_rights(self, people: People) -> None:
        """A fail-over may have lost the sign-up, and then there is neither a row nor a state of this user."""
        lost = Actor("9", "zed")
        await people.insert("a/1", "1", lost, 1_000)
        await people.set_rules(OPEN)
        await people.publish_due_after(2_000)
        assert [record.cancelled for record in await people.log("a/1")] == [True]
        with pytest.raises(Unauthorized):
            await people.insert("a/1", "1", lost)

    async def test_endings_are_not_judged(self, people: People) -> None:
        now_us = people.bench.now_us
        await people.insert("a/1", "1", BOB, until_us=now_us + 500, until=f"{now_us + 500}e-6")
        await people.set_rules(CLOSED)
        await people.state(BOB, disabled=True)
        await people.publish_due_after(1_000)
        assert [record.data for record in await people.log("a/1")] == [b"1", b"null"]

    async def test_the_number_of_what_is_pending_is_known_to_change(self, people: People) -> None:
        await people.insert("a/1", "1", BOB, 1_000)
        await people.set_rules(CLOSED)
        await people.publish_due_after(2_000)
        assert people.bench.commits[-1].pending_changed
        assert people.bench.commits[-1].next_due_us is None


async def test_a_planned_state_has_what_is_pending_of_one_user(people: People) -> None:
    await people.insert("a", "0", ADA)
    await people.insert("a", "1", ADA, 1_000)
    await people.insert("a", "2", BOB, 2_000)
    await people.insert("b", "3", BOB, 2_000)

    async def planned(user: str | None) -> dict[str, str]:
        rows = await people.store.planned(people.bench.now_us + 9_000, pending=True, user=user)
        records = await people.store.records([number for *_, number in rows], 10**9)
        return {record.event: record.data.decode() for record in records}

    assert await planned(None) == {"a": "2", "b": "3"}
    assert await planned("ada") == {"a": "1"}
    assert await planned("eve") == {"a": "0"}


async def test_no_record_is_judged_by_rules_that_are_older_than_those_before_it(workbench: Workbench) -> None:
    """Two nodes, if the database allows it, of which each has its own view, and neither is advanced in time."""
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(workbench.opened())
        there = await stack.enter_async_context(workbench.opened(Rights())) if workbench.database else here
        people, others = People(workbench, here), People(workbench, there)
        await people.arrive(OPEN)
        swapping = True

        async def insert() -> None:
            while swapping:
                await asyncio.gather(
                    *(others.store.append([others.new("a/1", who="bob")], BOB) for _ in range(5)),
                    return_exceptions=True,
                )

        inserting = asyncio.create_task(insert())
        for turn in range(20):
            await people.set_rules((CLOSED, OPEN)[turn % 2])
        swapping = False
        await inserting
        records: list[Record] = await read(here, 0)
    opened = encode_rules(OPEN)
    for before, record in pairwise(records):
        if record.event == "a/1":
            assert before.event == "a/1" or before.data == opened
    assert sum(record.event == "a/1" for record in records) > 0
