"""Rights are judged inside the transaction that writes, by what the store says at that moment."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from msgspec import structs

from broker.errors import (
    BrokerError,
    Conflict,
    Forbidden,
    NotFound,
    PreconditionFailed,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from broker.names import RULES_EVENT, USER_EVENT
from broker.records import Cancel
from broker.users import STRANGER_ACTOR, User, UserState
from tests.support.people import ADA, BOB, EVE, People, people_in
from tests.support.store import Workbench, faults

pytestmark = pytest.mark.anyio

ROOM = """
roles = ["moderator"]
[[event]]
name = "room/{owner}/member/{who}"
read = "{who}"
insert = ["{owner}", "{who} and if room/{owner}/member/{who}"]

[[event]]
name = "room/{owner}/message/{from}/*"
read = "user"
insert = ["{from} and if room/{owner}/member/{from}", "{owner}"]
cancel = ["{from}", "@moderator"]
max_bytes = 20

[[event]]
name = "vote/{who}"
insert = "{who}"
once = true

[[event]]
name = "secret/*"
insert = "user"
read = "@moderator"

[[event]]
name = "contact/*"
insert = "public"
remove = "nobody"
max_bytes = 10
rate = "9/minute"
"""
MEMBER, MESSAGE = "room/ada/member/bob", "room/ada/message/bob/1"


@pytest.fixture
async def people(workbench: Workbench) -> AsyncIterator[People]:
    async with people_in(workbench, ROOM) as people:
        yield people


async def test_a_right_depends_on_who_and_on_the_name(people: People) -> None:
    with pytest.raises(Forbidden, match="you have no right to insert this event"):
        await people.insert(MESSAGE, "1", BOB)
    with pytest.raises(Forbidden):
        await people.insert(MEMBER, "1", BOB)
    await people.insert(MEMBER, "1", ADA)
    await people.insert(MESSAGE, "1", BOB)
    with pytest.raises(Forbidden):
        await people.insert("room/ada/message/eve/1", "1", BOB)
    with pytest.raises(Forbidden):
        await people.insert("no/rule/covers/this", "1", ADA)


@pytest.mark.parametrize("data", ["false", "null"])
async def test_a_condition_holds_while_the_other_event_has_state_and_is_not_false(people: People, data: str) -> None:
    await people.insert(MEMBER, "1", ADA)
    await people.insert(MESSAGE, "1", BOB)
    await people.insert(MEMBER, data, ADA)
    with pytest.raises(Forbidden):
        await people.insert(MESSAGE, "2", BOB)


async def test_items_of_a_batch_see_those_before_them_and_none_is_stored_if_one_is_refused(people: People) -> None:
    new = [people.new(MEMBER, who="ada"), people.new("room/bob/member/ada", who="ada")]
    with pytest.raises(Forbidden) as refusal:
        await people.store.append(new, ADA)
    assert refusal.value.index == 1
    with pytest.raises(Forbidden):
        await people.insert(MESSAGE, "1", BOB)
    head = (await people.store.head()).position
    await people.store.append([people.new(MEMBER, who="ada"), people.new(MEMBER, "2", who="ada")], ADA)
    assert (await people.store.head()).position == head + 2


async def test_a_stranger_may_do_what_the_public_may_and_is_asked_to_log_in_otherwise(people: People) -> None:
    record = await people.insert("contact/1", "1", STRANGER_ACTOR)
    assert record.user == ""
    with pytest.raises(Unauthorized):
        await people.insert("vote/ada", "1", STRANGER_ACTOR)
    with pytest.raises(Unauthorized):
        await people.insert("contact/1", "null", STRANGER_ACTOR)


async def test_a_record_may_be_as_large_as_its_rule_says(people: People) -> None:
    await people.insert("contact/1", '"12345678"', BOB)
    with pytest.raises(TooLarge):
        await people.insert("contact/1", '"123456789"', BOB)


async def test_once_means_that_the_event_has_no_state(people: People) -> None:
    await people.insert("vote/ada", "1", ADA)
    with pytest.raises(Conflict):
        await people.insert("vote/ada", "2", ADA)
    await people.insert("vote/ada", "null", ADA)
    await people.insert("vote/ada", "3", ADA)


async def test_a_condition_on_the_latest_version_needs_the_right_to_read_it(people: People) -> None:
    await people.insert("secret/1", "1", ADA)
    with pytest.raises(Forbidden) as refusal:
        await people.insert("secret/1", "2", BOB, if_latest="none")
    assert not isinstance(refusal.value, PreconditionFailed)
    with pytest.raises(Forbidden):
        await people.insert("secret/none", "2", BOB, if_latest="none")
    await people.state(BOB, roles=("moderator",))
    with pytest.raises(PreconditionFailed):
        await people.insert("secret/1", "2", BOB, if_latest="none")


async def test_a_repeated_insert_is_answered_whatever_the_rights_are_now(people: People) -> None:
    new = people.new("vote/ada", who="ada", uuid_given=True)
    await people.store.append([new], ADA)
    await people.set_rules('[[event]]\nname = "vote/*"\n')
    assert (await people.store.append([new], ADA))[0][1] is False


class TestARepeatedInsertWithoutAUser:
    async def test_whoever_has_no_right_to_it_learns_nothing_of_the_operators_record(self, people: People) -> None:
        new = people.new("secret/1", '"salary 5000"', uuid_given=True)
        await people.store.append([new])
        guesses = [
            new,
            structs.replace(new, data=b'"salary 6000"'),
            structs.replace(new, uuid=uuid4()),
            structs.replace(new, event="none"),
        ]
        refusals: set[tuple[str, int | None]] = set()
        for guess in guesses:
            with pytest.raises(Unauthorized) as refusal:
                await people.store.append([people.new("contact/1", uuid_given=True), guess], STRANGER_ACTOR)
            refusals.add((str(refusal.value), refusal.value.index))
        assert len(refusals) == 1
        assert await people.log("contact/1") == []
        assert (await people.store.append([new]))[0][1] is False

    async def test_whoever_may_insert_it_gets_the_record_also_if_its_rule_permits_one_insert_only(
        self, people: People
    ) -> None:
        await people.set_rules(ROOM.replace('remove = "nobody"', 'remove = "nobody"\nonce = true'))
        new = people.new("contact/1", uuid_given=True)
        for created in (True, False):
            assert (await people.store.append([new], STRANGER_ACTOR))[0][1] is created
        with pytest.raises(Conflict, match="belongs to another insert"):
            await people.store.append([structs.replace(new, data=b"2")], STRANGER_ACTOR)


class TestVersionsThatEnd:
    """The end of a version removes its event, so it must not be a way around ``remove`` and ``once``."""

    POSTS = """
[[event]]
name = "post/*"
insert = "user"
remove = "if moderator/{me}"
[[event]]
name = "poll/{who}"
insert = "{who}"
remove = "nobody"
once = true
[[event]]
name = "note/*"
insert = "user"
"""

    @pytest.fixture
    async def people(self, workbench: Workbench) -> AsyncIterator[People]:
        async with people_in(workbench, self.POSTS) as people:
            yield people

    @staticmethod
    def end(people: People, us: int) -> dict[str, Any]:
        until_us = people.bench.now_us + us
        return {"until_us": until_us, "until": f"{until_us}e-6"}

    async def test_whoever_may_not_remove_inserts_none(self, people: People) -> None:
        await people.insert("post/1", "1", ADA)
        for event, actor in (("post/1", BOB), ("post/none", BOB), ("poll/bob", BOB)):
            with pytest.raises(Forbidden, match="until: you have no right to remove this event;"):
                await people.insert(event, "2", actor, **self.end(people, 500))
        with pytest.raises(Unauthorized, match="right to insert this event"):
            await people.insert("post/1", "2", STRANGER_ACTOR, **self.end(people, 500))
        await people.publish_due_after(1_000)
        assert [record.data for record in await people.log("post/1")] == [b"1"]

    async def test_whoever_may_remove_inserts_one(self, people: People) -> None:
        await people.insert("moderator/bob", "true", None)
        for event in ("post/1", "note/1"):
            await people.insert(event, "1", BOB, **self.end(people, 500))
        await people.publish_due_after(1_000)
        for event in ("post/1", "note/1"):
            assert [record.data for record in await people.log(event)] == [b"1", b"null"]

    async def test_whoever_may_not_remove_any_more_when_it_comes_due_publishes_none(self, people: People) -> None:
        await people.insert("moderator/bob", "true", None)
        await people.insert("post/1", "1", BOB, 1_000, **self.end(people, 2_000))
        await people.insert("post/2", "1", BOB, 1_000)
        await people.insert("moderator/bob", "false", None)
        await people.publish_due_after(3_000)
        (ending,), (other,) = await people.log("post/1"), await people.log("post/2")
        assert ending.reason == (
            "the user who inserted it has no right to remove this event any more, which until needs"
        )
        assert (ending.position, other.cancelled) == (None, False)


class TestCancelling:
    async def test_whoever_has_no_right_to_it_finds_no_such_record(self, people: People) -> None:
        await people.insert(MEMBER, "1", ADA)
        pending = await people.insert(MESSAGE, "1", BOB, 1_000)
        published = await people.insert(MESSAGE, "1", BOB)
        for uuid in (pending.uuid, published.uuid, uuid4()):
            with pytest.raises(NotFound, match=f"no record has the uuid {uuid}"):
                await people.store.cancel(uuid, EVE)
        await people.state(EVE, roles=("moderator",))
        with pytest.raises(Conflict):
            await people.store.cancel(published.uuid, EVE)
        assert (await people.store.cancel(pending.uuid, EVE)).cancelled

    async def test_without_a_rule_about_it_only_whoever_has_inserted_a_record_cancels_it(self, people: People) -> None:
        pending = await people.insert("vote/ada", "1", ADA, 1_000)
        with pytest.raises(NotFound):
            await people.store.append([Cancel(pending.uuid, "bob")], BOB)
        assert (await people.store.cancel(pending.uuid, ADA)).cancelled
        with pytest.raises(NotFound):
            await people.store.cancel(pending.uuid, BOB)

    async def test_nobody_cancels_what_strangers_have_inserted(self, people: People) -> None:
        pending = await people.insert("contact/1", "1", STRANGER_ACTOR, 1_000)
        for actor in (STRANGER_ACTOR, ADA):
            with pytest.raises(NotFound):
                await people.store.cancel(pending.uuid, actor)


class TestWhatComesDue:
    async def test_it_is_judged_again_and_says_why_it_was_cancelled(self, people: People) -> None:
        await people.insert(MEMBER, "1", ADA)
        await people.insert(MESSAGE, "1", BOB, 1_000)
        await people.insert(MEMBER, "null", ADA)
        await people.publish_due_after(2_000)
        (record,) = await people.log(MESSAGE)
        assert record.cancelled
        assert record.position is None
        assert record.reason == "the user who inserted it has no right to insert this event any more"
        assert await people.store.next_due() is None

    async def test_a_guest_who_schedules_himself_back_in_is_refused_at_its_time(self, people: People) -> None:
        await people.insert(MEMBER, "1", ADA)
        await people.insert(MEMBER, "2", BOB, 1_000)
        await people.insert(MEMBER, "null", ADA)
        await people.publish_due_after(2_000)
        with pytest.raises(Forbidden):
            await people.insert(MESSAGE, "1", BOB)

    async def test_a_pass_with_an_end_ends_and_what_comes_due_behind_it_is_refused(self, people: People) -> None:
        now_us = people.bench.now_us
        await people.insert(MEMBER, "1", ADA, until_us=now_us + 500, until=f"{now_us + 500}e-6")
        await people.insert(MESSAGE, "1", BOB, 400)
        await people.insert("room/ada/message/bob/2", "1", BOB, 600)
        await people.publish_due_after(2_000)
        assert [record.cancelled for record in await people.log(MESSAGE)] == [False]
        assert [record.cancelled for record in await people.log("room/ada/message/bob/2")] == [True]

    async def test_nothing_of_a_disabled_user_is_published_even_without_rules(self, workbench: Workbench) -> None:
        async with people_in(workbench) as people:
            await people.insert("a", "1", BOB, 1_000)
            await people.insert("b", "1", ADA, 1_000)
            await people.state(BOB, disabled=True, gen=1)
            await people.publish_due_after(2_000)
            assert [record.reason for event in "ab" for record in await people.log(event)] == [
                "the user who inserted it is disabled", None,
            ]  # fmt: skip

    async def test_scheduled_rules_take_effect_between_two_records(self, people: People) -> None:
        await people.insert("vote/ada", "1", ADA, 1_000)
        await people.set_rules('[[event]]\nname = "vote/*"\n', 2_000)
        await people.insert("vote/bob", "1", BOB, 3_000)
        await people.publish_due_after(5_000)
        assert [(await people.log(f"vote/{name}"))[0].cancelled for name in ("ada", "bob")] == [False, True]


async def test_a_token_that_is_not_valid_any_more_inserts_nothing(people: People) -> None:
    session = BOB._replace(session="a")
    await people.insert("vote/bob", "1", session)
    await people.state(BOB, ended=("a",))
    with pytest.raises(Unauthorized):
        await people.insert("vote/bob", "null", session)
    await people.insert("vote/bob", "null", BOB)
    await people.state(BOB, gen=1)
    with pytest.raises(Unauthorized):
        await people.insert("vote/bob", "2", BOB)
    with pytest.raises(Unauthorized):
        await people.insert("vote/bob", "2", session)


async def test_what_changes_about_a_user_is_a_record_and_a_row(people: People) -> None:
    await people.state(BOB, roles=("moderator",))
    assert (await people.store.user_by_id(BOB.user_id)).state.roles == ("moderator",)  # type: ignore[union-attr] # he is there
    (record,) = await people.log(f"{USER_EVENT}{BOB.user_id}")
    assert json.loads(record.data) == {"roles": ["moderator"]}
    assert [user.username for user in await people.store.users("", 9)] == ["ada", "bob", "eve"]
    assert [user.username for user in await people.store.users("ada", 1)] == ["bob"]


async def test_only_an_administrator_changes_somebody_else(people: People) -> None:
    def promote(user: User) -> User:
        return replace(user, state=UserState(roles=("admin",)))

    with pytest.raises(Forbidden):
        await people.store.change_user(ADA.user_id, promote, BOB)
    await people.state(BOB, roles=("admin",))
    assert (await people.store.change_user(ADA.user_id, promote, BOB)).state.roles == ("admin",)
    with pytest.raises(NotFound):
        await people.store.change_user("none", promote, BOB)


async def test_an_administrator_may_do_everything_with_events(people: People) -> None:
    await people.state(EVE, roles=("admin",))
    await people.insert("no/rule/covers/this", "1", EVE)
    await people.insert(MESSAGE, "1", EVE)


async def test_brokers_own_events_count_against_no_limit(workbench: Workbench) -> None:
    rules = '[[event]]\nname = "*"\ninsert = "user"\nopen = true\n'
    async with people_in(workbench, rules, event_names_max=1, snapshot_bytes_max=100) as people:
        await people.state(BOB, roles=())
        await people.state(EVE, gen=1)
        await people.insert("a", "1", ADA)
        with pytest.raises(BrokerError, match="event_names_max"):
            await people.insert("b", "1", BOB)


async def test_rules_of_a_newer_version_stop_every_write_but_the_operators(people: People) -> None:
    await people.insert("vote/ada", "1", ADA, 1_000)
    await people.insert(RULES_EVENT, '{"format":9,"toml":""}', None)
    with pytest.raises(Unavailable):
        await people.insert("vote/bob", "1", BOB)
    await people.publish_due_after(2_000)
    assert [record.position for record in await people.log("vote/ada")] == [None]
    await people.set_rules(ROOM)
    await people.publish_due_after(2_000)
    assert [record.cancelled for record in await people.log("vote/ada")] == [False]
    await people.insert("vote/bob", "1", BOB)


async def test_a_log_with_rights_has_no_faults(tmp_path: Path) -> None:
    async with people_in(Workbench(tmp_path), ROOM) as people:
        await people.insert(MEMBER, "false", ADA)
        await people.insert(MESSAGE, "1", ADA)
        await people.insert("vote/bob", "1", BOB, 1_000)
        await people.set_rules(ROOM, 10_000)
        await people.insert("contact/1", "1", STRANGER_ACTOR)
        await people.state(BOB, disabled=True, gen=3, roles=("moderator", "x"), ended=("a", "b"))
        await people.publish_due_after(2_000)
    assert faults(tmp_path) == []
