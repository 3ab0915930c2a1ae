"""Conditions that somebody changes again and again: streams that this does not concern are left alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broker import Broker, Settings
from broker.live import access
from broker.live.forms import can_match
from broker.live.subscription import Subscription
from broker.names import RULES_EVENT, Filter
from broker.records import NewRecord, make_uuid
from broker.rules.rights import encode_rules
from broker.users import OPERATOR, STRANGER_ACTOR, Actor
from tests.support.servers import until
from tests.support.store import Workbench
from tests.support.stream_client import StreamClient

pytestmark = pytest.mark.anyio

BOB = Actor("2", "bob")
RULES = """
[[event]]
name = "hall/{x}/*"
read = "if gate/{x}"

[[event]]
name = "gate/{_}"

[[event]]
name = "room/{_}/member/{_}"

[[event]]
name = "room/{room}/message/*"
read = "if room/{room}/member/{me}"

[[event]]
name = "pub/*"
read = "public"
"""


class People:
    """A node with these rules, and streams whose catch-up is done."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    async def rule(self) -> None:
        await self.put((RULES_EVENT, encode_rules(RULES).decode()))

    async def put(self, *items: tuple[str, str]) -> None:
        records = [NewRecord(make_uuid(1), event, data.encode(), "") for event, data in items]
        await self.broker.insert(records, OPERATOR)
        head = (await self.broker.store.head()).position
        await until(lambda: self.broker.hub.position == head)

    async def stream(self, *patterns: str, actor: Actor = STRANGER_ACTOR, last_id: str | None = None) -> StreamClient:
        client = StreamClient(actor)
        client.open_stream(self.broker, Subscription(Filter.parse(list(patterns), 9)), last_id)
        await until(lambda: client.subscriber.group is not None)
        return client


@pytest.fixture
async def people(workbench: Workbench) -> AsyncIterator[People]:
    broker = Broker(Settings(data=workbench.folder, database=workbench.database, rights_reset_s=0.01))
    async with broker.lifespan():
        people = People(broker)
        await people.rule()
        yield people


def names(client: StreamClient) -> list[str]:
    return [frame.event for frame in client.reader.frames]


def toggles(event: str, count: int) -> list[tuple[str, str]]:
    return [(event, "false" if n % 2 else "true") for n in range(count)]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns a list of the filters that were compared with what a change is about."""
    compared: list[str] = []

    def count(filter: Filter, form: tuple[str, ...]) -> bool:
        compared.append(str(filter))
        return can_match(filter, form)

    monkeypatch.setattr(access, "can_match", count)
    return compared


async def test_streams_that_a_condition_does_not_concern_are_not_even_looked_at(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    await people.put(("hall/eve/1", "1"))
    streams = [await people.stream("pub/1", "hall/bob/*", actor=BOB) for _ in range(20)]
    groups = {client.subscriber.group for client in streams}
    compared = counted(monkeypatch)
    await people.put(*toggles("gate/eve", 50), ("pub/1", "1"))
    assert compared == []
    assert {client.subscriber.group for client in streams} == groups
    assert all(names(client) == ["$ready", "pub/1"] for client in streams)


async def test_many_changes_in_one_commit_make_one_reset(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    await people.put(("hall/eve/1", "1"))
    streams = [await people.stream("hall/*", actor=BOB) for _ in range(20)]
    compared = counted(monkeypatch)
    await people.put(*toggles("gate/eve", 51))
    await until(lambda: all(names(client) == ["$ready", "$reset", "hall/eve/1", "$ready"] for client in streams))
    assert len(compared) <= 1 + 20, "each stream is compared once, when it starts again, and not for each change"
    await people.put(("gate/eve", "false"), ("hall/eve/1", "2"))
    await until(lambda: all(names(client)[4:] == ["$reset", "$ready"] for client in streams))


async def test_a_membership_of_an_empty_room_resets_nobody_and_what_comes_is_judged_by_it(people: People) -> None:
    client = await people.stream(actor=BOB)
    for data in ("true", "null", "true"):
        await people.put(("room/1/member/bob", data))
    await people.put(("room/1/message/1", "1"))
    assert names(client) == ["$ready", "room/1/message/1"]
    await people.put(("room/1/member/bob", "null"), ("room/1/message/2", "2"))
    await until(lambda: names(client)[2:] == ["$reset", "$ready"])


async def test_a_client_that_was_away_meanwhile_resumes_by_the_rights_of_now(people: People) -> None:
    before = await people.stream(actor=BOB)
    last_id = before.reader.frames[-1].id
    await people.put(("room/1/member/bob", "true"), ("room/1/message/1", "1"), ("room/2/message/1", "2"))
    resumed = await people.stream(actor=BOB, last_id=last_id)
    assert names(resumed) == ["room/1/message/1", "$ready"]
    await people.put(("room/1/member/bob", "null"))
    again = await people.stream(actor=BOB, last_id=resumed.reader.frames[0].id)
    assert names(again) == ["$reset", "$ready"]


async def test_frames_that_wait_are_written_although_the_last_restricted_stream_has_closed(people: People) -> None:
    hub = people.broker.hub
    await people.put(("pub/1", "1"))
    (latest,) = (await people.broker.store.snapshot()).latest[-1:]
    frame = people.broker.relay.frame(latest)
    administrator, bobs = await people.stream(actor=OPERATOR), await people.stream(actor=BOB)
    hub.publish(frame)
    bobs.close()
    hub.publish(frame)
    hub.flush()
    assert names(administrator)[-2:] == ["pub/1", "pub/1"]
    assert "$ready" in names(administrator)[:-2]
