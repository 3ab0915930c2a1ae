"""Removals on streams: who receives them, and what becomes of a client that missed too many."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from broker import Broker, Settings
from broker.records import NewRecord, make_uuid
from broker.users import OPERATOR
from broker.web.app import App
from tests.support.asgi import AsgiStream
from tests.support.servers import BOUND_S, Frame, ServerProcess, streaming

pytestmark = pytest.mark.anyio


def state_of(frames: list[Frame], state: dict[str, object] | None = None) -> dict[str, object]:
    """What a page has after these frames, if it had ``state`` before."""
    found = dict(state or {})
    for frame in frames:
        if frame.event == "$reset":
            found = {}
        elif not frame.event.startswith("$"):
            found[frame.event] = frame.json()
            if frame.json() is None:
                del found[frame.event]
    return found


async def put(broker: Broker, event: str, data: object) -> str:
    """Returns the id."""
    ((record, _),) = await broker.insert([NewRecord(make_uuid(1), event, json.dumps(data).encode(), "ada")], OPERATOR)
    assert record.id is not None
    return record.id


async def comes(stream: AsgiStream, event: str, count: int = 1) -> list[Frame]:
    """All frames, once there are ``count`` of ``event``."""
    while sum(frame.event == event for frame in stream.frames) < count:  # noqa: ASYNC110 (it has no event to wait for)
        await asyncio.sleep(0.002)
    return list(stream.frames)


async def until_ready(broker: Broker, query: str = "", last_id: str = "") -> list[Frame]:
    stream = AsgiStream(App(broker), query=query, last_id=last_id)
    frames = await comes(stream, "$ready")
    await stream.leave()
    return frames[:-1]


def short(frames: list[Frame]) -> list[tuple[str, object]]:
    return [(frame.event, frame.json()) for frame in frames]


def test_open_pages_receive_a_removal_and_new_ones_do_not_also_after_a_restart(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, server.client("ada") as client:
        with streaming(server) as reader:
            reader.wait("$ready")
            for event, data in (("a", 1), ("b", 2), ("a", None)):
                assert client.post("/insert", json={"event": event, "data": data}).status_code == 201
            assert short(reader.wait("a", 2)[1:]) == [("a", 1), ("b", 2), ("a", None)]
        for _ in range(2):
            with streaming(server) as reader:
                assert short(reader.wait("$ready")[:-1]) == [("b", 2)]
            server.stop()
            server.start()
        client.post("/insert", json={"event": "a", "data": 3})  # comes back
        with streaming(server, "/events?frames=record") as reader:
            reader.wait("$ready")
            assert [frame.json()["data"] for frame in reader.frames[:-1]] == [2, 3]


async def test_a_client_that_is_too_far_behind_receives_the_removals_it_missed(tmp_path: Path) -> None:
    async with Broker(Settings(data=tmp_path, replay_max=2)).lifespan() as _:
        pass  # the log exists now
    broker = Broker(Settings(data=tmp_path, replay_max=2))
    async with broker.lifespan(), asyncio.timeout(BOUND_S):
        await put(broker, "a", 1)
        last = await put(broker, "b", 1)
        for event, data in (("a", None), ("never", None), ("c", 1), ("c", None), ("d", 1)):
            await put(broker, event, data)
        expected = [("$skipped", {"positions": 5}), ("a", None), ("c", None), ("d", 1)]
        assert short(await until_ready(broker, last_id=last)) == expected
        assert short(await until_ready(broker, "event=a&event=d", last_id=last)) == [
            expected[0], expected[1], expected[3]
        ]  # fmt: skip
        assert short(await until_ready(broker)) == [("b", 1), ("d", 1)]
    again = Broker(Settings(data=tmp_path, replay_max=2))
    async with again.lifespan(), asyncio.timeout(BOUND_S):
        assert short(await until_ready(again, last_id=last)) == expected


async def test_a_resume_from_position_0_is_a_first_walk(tmp_path: Path) -> None:
    broker = Broker(Settings(data=tmp_path, replay_max=2, removals_kept=1))
    async with broker.lifespan(), asyncio.timeout(BOUND_S):
        start = broker.relay.id_of(0).decode()
        for event in ("a", "b", "c"):
            await put(broker, event, 1)
            await put(broker, event, None)
        await put(broker, "d", 1)
        assert broker.relay.snapshot.removals_floor > 0
        assert short(await until_ready(broker, last_id=start)) == [("$skipped", {"positions": 7}), ("d", 1)]


async def test_a_client_that_missed_removals_which_are_not_known_any_more_starts_anew(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, replay_max=2, removals_kept=1)
    broker = Broker(settings)
    async with broker.lifespan(), asyncio.timeout(BOUND_S):
        for event in ("a", "b", "c"):
            last = await put(broker, event, 1)
        ids = [last, *[await put(broker, event, None) for event in ("a", "b")], await put(broker, "d", 1)]
        await put(broker, "e", 1)
        await put(broker, "e", 2)
        too_old = [("$reset", {"reason": "too-old"}), ("c", 1), ("d", 1), ("e", 2)]
        assert short(await until_ready(broker, last_id=ids[0])) == too_old
        # The removal of a is not known any more, but this client has it.
        changed = [("$skipped", {"positions": 4}), ("b", None), ("d", 1), ("e", 2)]
        assert short(await until_ready(broker, last_id=ids[1])) == changed
    again = Broker(settings)
    async with again.lifespan(), asyncio.timeout(BOUND_S):  # the floor is stored
        assert short(await until_ready(again, last_id=ids[0])) == too_old
        assert short(await until_ready(again, last_id=ids[1])) == changed


async def test_within_a_replay_no_removal_is_too_old(tmp_path: Path) -> None:
    broker = Broker(Settings(data=tmp_path, removals_kept=1))
    async with broker.lifespan(), asyncio.timeout(BOUND_S):
        await put(broker, "a", 1)
        last = await put(broker, "b", 1)
        await put(broker, "a", None)
        await put(broker, "b", None)
        assert broker.relay.snapshot.removals_floor == 3
        assert short(await until_ready(broker, last_id=last)) == [("a", None), ("b", None)]


@pytest.mark.parametrize("query", ["", "frames=record", "event=e*"])
async def test_a_removal_that_is_dropped_while_a_slow_client_walks_makes_it_start_anew(
    tmp_path: Path, query: str
) -> None:
    """Otherwise the client would keep what was removed for good: the walk would pass the place of the removal."""
    broker = Broker(Settings(data=tmp_path, replay_max=10, removals_kept=20, subscriber_buffer_bytes=65_536))
    async with broker.lifespan(), asyncio.timeout(BOUND_S):
        for n in range(100):
            last = await put(broker, f"e{n}", 1)
        before: dict[str, object] = {f"e{n}": 1 for n in range(100)}
        for n in range(60):
            await put(broker, f"e{n}", [2, "x" * 20_000])
        for n in range(90, 95):
            await put(broker, f"e{n}", None)  # at the end of the walk
        stream = AsgiStream(App(broker), query=query, last_id=last)
        while not broker.hub.subscribers:  # noqa: ASYNC110
            await asyncio.sleep(0)
        stream.reading.clear()
        (subscriber,) = broker.hub.subscribers
        while not subscriber.paused:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        assert 100 < subscriber.position < 160, "it is in the midst of the walk"
        for n in range(60, 90):
            await put(broker, f"e{n}", None)
        assert broker.relay.snapshot.removals_floor > 165
        stream.reading.set()
        frames = await comes(stream, "$ready")
        assert short(frames)[0] == ("$skipped", {"positions": 65})
        assert [frame.json() for frame in frames if frame.event == "$reset"] == [{"reason": "too-old"}]
        if query != "frames=record":
            expected: dict[str, object] = {f"e{n}": [2, "x" * 20_000] for n in range(60)}
            assert state_of(frames, before) == expected | {f"e{n}": 1 for n in range(95, 100)}
        await stream.leave()
