"""Nothing is read behind the end of a right, however far the node is behind the store, and however long a request waits
or its response takes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from broker import Broker, Settings
from broker.accounts.accounts import Login
from broker.errors import BadRequest, Forbidden, NotFound, Unauthorized, Unavailable
from broker.live import listing, reads
from broker.live.listing import Selection
from broker.names import EVERYTHING, Filter
from broker.records import make_uuid
from broker.store.base import Commit
from broker.users import Actor
from broker.web import schema, snapshot
from broker.web.log import Log
from broker.web.pending import Pending
from broker.web.requests import Endpoint
from broker.web.schema import Types
from broker.web.snapshot import Snapshot
from tests.support.people import ADA, BOB, People
from tests.support.store import Workbench

pytestmark = pytest.mark.anyio

RULES = """
roles = ["staff"]
[[event]]
name = "club/{_}"
insert = "user"
log = "@staff"

[[event]]
name = "room/*"
read = "if club/{me}"
log = "if club/{me}"
insert = "user"
"""
OPEN = """
roles = ["staff"]
[[event]]
name = "*"
read = "user"
log = "@staff"
insert = "user"
open = true
"""
HOUR_US = 3_600_000_000


class Node:
    """A node with three users, of whom Bob is a member of the club."""

    def __init__(self, broker: Broker, people: People) -> None:
        self.broker = broker
        self.people = people
        self.hints: list[Commit] = []  # which the relay has not received

    def lose_hints(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The relay learns of no commit from now on, as if other nodes had made them, and it had not read them yet."""
        monkeypatch.setattr(self.broker.relay, "hint", self.hints.append)

    async def insert(self, event: str, data: str, later_us: int | None = None) -> None:
        self.people.bench.now_us += 1
        await self.people.insert(event, data, ADA, later_us)

    async def exclude_bob(self) -> None:
        """What is inserted afterwards is nothing for him."""
        await self.insert("club/bob", "null")
        await self.insert("room/1", '"AFTER"')
        await self.insert("room/2", '"AFTER"', HOUR_US)


@pytest.fixture
async def node(workbench: Workbench) -> AsyncIterator[Node]:
    async with running(workbench) as broker:
        people = People(workbench, broker.store)
        await people.arrive(RULES)
        node = Node(broker, people)
        await node.insert("club/bob", "true")
        await node.insert("room/1", '"before"')
        await node.insert("room/2", '"before"', HOUR_US)
        yield node


@asynccontextmanager
async def running(workbench: Workbench) -> AsyncIterator[Broker]:
    settings = Settings(data=workbench.folder, database=workbench.database, relay_poll_s=60.0)
    broker = Broker(settings, clock=lambda: workbench.now_us)
    async with broker.lifespan(), asyncio.timeout(20):
        yield broker


Portions = AsyncIterator[list[Any]]


async def the_log(broker: Broker, actor: Actor) -> Portions:
    _, portions = await broker.reads.log_page("room/1", None, None, False, actor)
    return portions


async def pending(broker: Broker, actor: Actor) -> Portions:
    return await broker.reads.pending(EVERYTHING, None, actor)


async def the_past(broker: Broker, actor: Actor) -> Portions:
    time_us = broker.clock()
    versions, _ = await broker.state_at(time_us, await broker.id_at(time_us), Selection(), actor)
    return broker.reads.versions(versions, actor, broker.access.view_of(actor))


async def the_future(broker: Broker, actor: Actor) -> Portions:
    versions, _ = await broker.state_at(broker.clock() + 2 * HOUR_US, None, Selection(), actor)
    return broker.reads.versions(versions, actor, broker.access.view_of(actor))


async def the_state(broker: Broker, actor: Actor) -> Portions:
    frames, _ = await broker.state(Selection(), actor)

    async def portions() -> Portions:
        for frame in frames:
            yield [frame]

    return portions()


async def texts(portions: Portions) -> list[str]:
    return [record.data.decode() async for portion in portions for record in portion]


Read = Callable[[Broker, Actor], Awaitable[Portions]]
FROM_THE_STORE = [the_log, pending, the_past, the_future]


@pytest.mark.parametrize("read", [*FROM_THE_STORE, the_state])
async def test_a_member_reads_the_room(node: Node, read: Read) -> None:
    assert await texts(await read(node.broker, BOB)) == ['"before"'] * (1 if read is not the_future else 2)


@pytest.mark.parametrize("read", FROM_THE_STORE)
async def test_a_store_that_is_ahead_of_the_node_shows_nothing_behind_the_end_of_a_right(
    node: Node, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.lose_hints(monkeypatch)
    await node.exclude_bob()
    found: list[str] = []
    with contextlib.suppress(Forbidden):
        found = await texts(await read(node.broker, BOB))
    assert found == []


@pytest.mark.parametrize("after", [None, make_uuid(1)])
async def test_nor_does_it_say_that_there_is_no_record(
    node: Node, after: UUID | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if after is not None:
        with pytest.raises(BadRequest, match="no record with the uuid"):
            await node.broker.reads.log_page("room/none", after, None, False, BOB)
    node.lose_hints(monkeypatch)
    await node.exclude_bob()
    with pytest.raises(Forbidden):
        await node.broker.reads.log_page("room/none", after, None, False, BOB)


async def test_the_uuid_of_a_pending_record_is_unknown_behind_the_end_of_a_right(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    (record,) = [record async for portion in await pending(node.broker, BOB) for record in portion]
    assert await texts(await node.broker.reads.pending(EVERYTHING, record.uuid, BOB)) == []
    node.lose_hints(monkeypatch)
    await node.exclude_bob()
    with pytest.raises(BadRequest, match="no record has the uuid"):
        await node.broker.reads.pending(EVERYTHING, record.uuid, BOB)


async def test_an_end_of_the_token_that_the_node_has_not_read_yet_counts(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.lose_hints(monkeypatch)
    await node.people.state(BOB, disabled=True)
    for read in FROM_THE_STORE:
        with pytest.raises(Unauthorized, match="not valid any more"):
            await texts(await read(node.broker, BOB))


async def test_a_node_that_does_not_reach_the_store_in_time_refuses(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.lose_hints(monkeypatch)
    await node.exclude_bob()
    monkeypatch.setattr("broker.live.relay._CAUGHT_UP_S", 0.01)
    node.broker.relay._wake = asyncio.Event()  # the relay waits for another one, so it sleeps on
    with pytest.raises(Unavailable, match="not read the log up to here yet"):
        await texts(await the_log(node.broker, BOB))


async def test_without_rules_the_store_is_not_asked_for_its_head(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(workbench) as broker:
        people = People(workbench, broker.store)
        await people.insert("room/1", '"before"', ADA)
        monkeypatch.setattr(broker.store, "head", None)
        for read in FROM_THE_STORE:
            assert await texts(await read(broker, BOB)) == (['"before"'] if read is not pending else [])


@pytest.mark.parametrize("read", FROM_THE_STORE)
@pytest.mark.parametrize("disabled", [False, True])
async def test_each_portion_is_judged(node: Node, read: Read, disabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("_PORTION_BYTES", "_STATE_RECORDS", "_PENDING_RECORDS"):
        monkeypatch.setattr(reads, limit, 1)
    for event, later_us in (("room/1", None), ("room/1/more", None), ("room/3", HOUR_US)):
        await node.insert(event, '"before"', later_us)
    portions = await read(node.broker, BOB)
    assert len(await anext(portions)) == 1
    await (node.people.state(BOB, disabled=True) if disabled else node.exclude_bob())
    if read is pending and not disabled:  # there it depends on each record
        assert await texts(portions) == []
    else:
        refusal = Unauthorized if disabled else Forbidden if read is the_log else Unavailable
        with pytest.raises(refusal):
            await anext(portions)


async def test_a_pending_record_is_shown_only_while_the_log_may_be_read(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has lost the right to the log may still have the right to read."""
    monkeypatch.setattr(reads, "_STATE_RECORDS", 1)
    portions = await the_future(node.broker, BOB)
    assert len(await anext(portions)) == 1
    await node.people.set_rules(RULES.replace('log = "if club/{me}"\n', ""))
    with pytest.raises(Unavailable, match="has changed"):
        await anext(portions)


WAITING: dict[str, Callable[[Broker], Awaitable[object]]] = {
    "the past": lambda broker: the_past(broker, BOB),
    "the future": lambda broker: the_future(broker, BOB),
    "a schema": lambda broker: broker.types.schema(Filter.parse(["room/1"], 1), "room/1", BOB),
    "the types": lambda broker: broker.types.declarations(BOB),
}


@pytest.mark.parametrize("what", WAITING)
@pytest.mark.parametrize("disabled", [False, True])
async def test_a_request_that_has_waited_is_answered_by_the_rights_of_now(
    node: Node, what: str, disabled: bool
) -> None:
    turns = (node.broker.types if what in ("a schema", "the types") else node.broker.history)._turns
    async with turns.turn(""):
        waiting = asyncio.ensure_future(WAITING[what](node.broker))
        await asyncio.sleep(0)
        await (node.people.state(BOB, disabled=True) if disabled else node.exclude_bob())
    if disabled:
        with pytest.raises(Unauthorized):
            await waiting
    elif what == "a schema":
        with pytest.raises(NotFound):
            await waiting
    elif what == "the types":
        assert "room" not in str(await waiting)
    else:
        assert await texts(await waiting) == []  # type: ignore[arg-type] # portions


@pytest.mark.parametrize("read", FROM_THE_STORE)
async def test_reading_every_event_is_not_reading_every_log(node: Node, read: Read) -> None:
    """A rule may let all users read everything, and staff alone see what is pending."""
    await node.people.set_rules(OPEN)
    assert node.broker.access.reading(BOB) is None
    await node.insert("room/1", '"later"', HOUR_US)
    if read is the_log:
        with pytest.raises(Forbidden):
            await read(node.broker, BOB)
    else:
        shown = [] if read is pending else ["true", '"before"']
        assert await texts(await read(node.broker, BOB)) == shown
    # Ada sees what she has inserted, as staff see everything.
    await node.people.state(BOB, roles=("staff",))
    for actor in (ADA, BOB) if read is not the_log else (BOB,):
        planned = await texts(await read(node.broker, actor))
        assert ('"later"' in planned) == (read is not the_past)


@pytest.mark.parametrize("before", [None, OPEN])
async def test_rules_that_come_while_the_future_is_read_count(
    workbench: Workbench, before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(workbench) as broker:
        people = People(workbench, broker.store)
        await people.arrive()
        await people.state(BOB, roles=("admin",))  # by which the log has a change of rights
        if before:
            await people.set_rules(before)
        await people.insert("room/1", '"SECRET"', ADA, HOUR_US)
        node = Node(broker, people)
        node.lose_hints(monkeypatch)
        await people.set_rules(RULES)
        await people.state(BOB, roles=())
        with pytest.raises(Unavailable, match="rights have changed"):
            await the_future(broker, BOB)
        assert await texts(await the_future(broker, BOB)) == []


SELECTING: dict[str, Callable[[Broker], Awaitable[object]]] = {
    "the state": lambda broker: broker.state(Selection(), BOB),
    "a schema": lambda broker: broker.types.schema(Filter.parse(["room/*"], 1), "room/*", BOB),
    "the types": lambda broker: broker.types.declarations(BOB),
}


@pytest.mark.parametrize("what", SELECTING)
async def test_a_right_that_holds_neither_before_nor_after_a_change_gives_nothing(
    node: Node, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the state is selected, other rules come, which do not ask about the club any more, so anybody may join it.
    The old rules and the new state together would admit who was never a member."""
    await node.insert("club/bob", "null")
    await node.insert("room/1", '"AFTER"')
    await node.insert("club/eve", "true")  # it is examined before the room's record, in either order
    hint = node.broker.relay.hint
    node.lose_hints(monkeypatch)
    await node.people.set_rules(RULES.replace("if club/{me}", "@staff"))
    await node.insert("club/bob", "true")
    monkeypatch.setattr(listing, "_EXAMINED_MAX", 1)
    waiting = asyncio.ensure_future(SELECTING[what](node.broker))
    await asyncio.sleep(0)
    for commit in node.hints:
        hint(commit)
    assert not node.broker.access.allows("read", "room/1", BOB)
    with pytest.raises(Unavailable, match="has changed"):
        await waiting


class Request:
    """A request of a new user, for an endpoint."""

    def __init__(self, node: Node, login: Login) -> None:
        self.node = node
        self.token = login.token
        self.actor = Actor(login.user.id, login.user.username)
        self.sent: list[bytes] = []

    async def disable(self) -> None:
        await self.node.people.state(self.actor, disabled=True)

    async def get(
        self, endpoint: Endpoint, path: str, *headers: tuple[bytes, bytes], meanwhile: Callable[[], Awaitable[object]]
    ) -> None:
        """``meanwhile`` is called when the first piece of the body is on its way."""
        begun = False

        async def send(message: Any) -> None:
            nonlocal begun
            self.sent.append(message.get("body", b""))
            if self.sent[-1] and not begun:
                begun = True
                await meanwhile()

        async def receive() -> Any:
            raise AssertionError("there is no body to read")

        path, _, query = path.partition("?")
        token = (b"authorization", f"Bearer {self.token}".encode())
        scope = {
            "type": "http", "method": "GET", "path": path, "query_string": query.encode(),
            "headers": [token, *headers], "path_params": {"event": "room/1"}, "client": ("127.0.0.1", 1),
        }  # fmt: skip
        await endpoint(scope, receive, send)


@pytest.fixture
async def request_of(node: Node) -> Request:
    return Request(node, await node.broker.accounts.sign_up("mallory", "correct horse", b"null"))


NOW = "1700000000.5"  # by the clock of these tests
ENDPOINTS: dict[str, Callable[[Broker], Endpoint]] = {
    "/snapshot": lambda broker: Snapshot(broker).read,
    f"/snapshot?at={NOW}": lambda broker: Snapshot(broker).read,
    "/snapshot?at=9e9": lambda broker: Snapshot(broker).read,
    "/collections": lambda broker: Log(broker).read,
    "/pending": lambda broker: Pending(broker).read,
    "/types.d.ts": lambda broker: Types(broker).declarations,
}


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_a_slow_client_receives_no_further_portion_when_its_token_has_ended(
    request_of: Request, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error closes the connection, so that the client does not take what it has for all."""
    node = request_of.node
    for limit in ("_PORTION_BYTES", "_STATE_BYTES"):
        monkeypatch.setattr(reads, limit, 1)
    for module in (snapshot, schema):
        monkeypatch.setattr(module, "_PORTION_BYTES", 1)
    await node.people.set_rules(RULES.replace("if club/{me}", "user"))
    for event, later_us in (("room/1", None), ("room/2", None), ("room/3", HOUR_US)):
        await node.insert(event, '"x"', later_us)
    node.people.bench.now_us += 1_000_000
    with pytest.raises(Unauthorized, match="not valid any more"):
        await request_of.get(ENDPOINTS[path](node.broker), path, meanwhile=request_of.disable)
    received = b"".join(request_of.sent)
    assert received
    assert not received.endswith(b"\n")


async def test_a_client_that_reads_the_state_slowly_receives_no_portion_behind_the_end_of_its_right(
    request_of: Request,
) -> None:
    node = request_of.node
    large = '[[event]]\nname = "large/*"\nread = "user"\ninsert = "user"\n'
    await node.people.set_rules(large)
    for index in range(4):
        await node.insert(f"large/{index}", f'"{index}{60_000 * "x"}"')
    with pytest.raises(Unavailable, match="has changed"):
        await request_of.get(
            Snapshot(node.broker).read, "/snapshot",
            meanwhile=lambda: node.people.set_rules(large.replace('read = "user"', 'read = "nobody"')),
        )  # fmt: skip
    assert 60_000 < len(b"".join(request_of.sent)) < 130_000


async def test_a_request_that_has_waited_does_not_even_learn_that_nothing_has_changed(request_of: Request) -> None:
    broker = request_of.node.broker
    async with broker.history._turns.turn(""):
        asked = request_of.get(
            Snapshot(broker).read, "/snapshot?at=1600000000", (b"if-none-match", b"*"),
            meanwhile=request_of.disable,
        )  # fmt: skip
        waiting = asyncio.ensure_future(asked)
        await asyncio.sleep(0.05)
        await request_of.disable()
    with pytest.raises(Unauthorized, match="not valid any more"):
        await waiting
    assert request_of.sent == []


async def test_the_types_that_are_kept_are_not_for_a_token_that_has_ended(node: Node) -> None:
    await node.people.set_rules(OPEN)
    await node.broker.types.declarations(ADA)
    async with node.broker.types._turns.turn(""):
        waiting = asyncio.ensure_future(node.broker.types.declarations(BOB))
        await asyncio.sleep(0)
        await node.people.state(BOB, disabled=True)
    with pytest.raises(Unauthorized):
        await waiting
