"""Positions that no stream shows: `$passed` stands in for them on streams without a filter."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker import Broker, Settings
from broker.records import NewRecord, make_uuid
from broker.web.app import App
from tests.support.asgi import AsgiStream
from tests.support.servers import BOUND_S, Frame

pytestmark = pytest.mark.anyio


def record(event: str) -> NewRecord:
    return NewRecord(make_uuid(1), event, b'"of Broker"' if event.startswith("$") else b"1", "ada")


async def append(broker: Broker, *events: str) -> None:
    """In one transaction, and without the check of names: HTTP refuses those that are reserved."""
    await broker.store.append([record(event) for event in events])


async def comes(stream: AsgiStream, position: int) -> list[Frame]:
    """All frames, once that of this position has come."""
    while not stream.frames or not stream.frames[-1].id.endswith(f"-{position}"):  # noqa: ASYNC110
        await asyncio.sleep(0.002)
    return list(stream.frames)


def short(frames: list[Frame]) -> list[tuple[str, int, object]]:
    """Each frame's name and position, and how many positions it says are passed."""
    return [
        (frame.event, frame.position, frame.json()["positions"] if frame.event == "$passed" else None)
        for frame in frames
        if frame.event != "$ready"
    ]


@pytest.mark.parametrize("form", ["", "frames=record"])
async def test_reserved_records_come_as_passed_live_and_in_a_replay_from_memory_or_the_store(
    tmp_path: Path, form: str
) -> None:
    events = ["e", "$a", "$b", "e", "$a", "e", "$c", "$c", "$c"]
    name = "message" if form else "e"
    expected = [
        (name, 1, None),
        ("$passed", 3, 2),
        (name, 4, None),
        ("$passed", 5, 1),
        (name, 6, None),
        ("$passed", 9, 3),
    ]
    broker = Broker(Settings(data=tmp_path))
    async with broker.lifespan(), asyncio.timeout(BOUND_S):
        start = broker.relay.id_of(0).decode()
        live = AsgiStream(App(broker), query=form)
        await comes(live, 0)
        await append(broker, *events)
        assert short(await comes(live, 9)) == expected
        replayed = AsgiStream(App(broker), query=form, last_id=start)
        assert short(await comes(replayed, 9))[: len(expected)] == expected
        for stream in (live, replayed):
            assert not any("of Broker" in frame.data or "$a" in frame.data for frame in stream.frames)
            await stream.leave()
    again = Broker(Settings(data=tmp_path))
    async with again.lifespan(), asyncio.timeout(BOUND_S):
        stored = AsgiStream(App(again), query=form, last_id=start)
        while not any(frame.event == "$ready" for frame in stored.frames):  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        assert short(stored.frames) == expected
        await stored.leave()


@pytest.mark.parametrize("restarted", [False, True])
async def test_no_snapshot_has_reserved_records(tmp_path: Path, restarted: bool) -> None:
    settings = Settings(data=tmp_path, replay_max=1)
    broker = Broker(settings)
    async with broker.lifespan(), asyncio.timeout(BOUND_S):
        first = broker.relay.id_of(1).decode()
        await append(broker, "e", "$a", "f", "$b")
        if not restarted:
            await no_snapshot_shows_them(broker, first)
    if restarted:
        broker = Broker(settings)
        async with broker.lifespan(), asyncio.timeout(BOUND_S):
            await no_snapshot_shows_them(broker, first)


async def no_snapshot_shows_them(broker: Broker, first: str) -> None:
    for last_id, expected in (("", ["e", "f"]), (first, ["$skipped", "f"]), ("ffffffff-1", ["$reset", "e", "f"])):
        stream = AsgiStream(App(broker), last_id=last_id)
        frames = await comes(stream, 4)
        assert [frame.event for frame in frames] == [*expected, "$ready"]
        assert frames[-1].position == 4
        await stream.leave()


async def test_a_stream_with_a_filter_is_promised_no_count_and_gets_no_passed(tmp_path: Path) -> None:
    broker = Broker(Settings(data=tmp_path))
    async with broker.lifespan(), asyncio.timeout(BOUND_S):
        stream = AsgiStream(App(broker), query="event=e")
        await comes(stream, 0)
        await append(broker, "$a", "e", "$a")
        await append(broker, "e")
        assert short(await comes(stream, 4)) == [("e", 2, None), ("e", 4, None)]
        await stream.leave()
