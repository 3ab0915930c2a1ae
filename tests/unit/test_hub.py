"""When a turn's frames go out (decision 0005). test_handover, test_churn and test_model hold the rest of the hub."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from broker.live.hub import Hub
from broker.records import NewRecord, make_uuid
from tests.support.servers import streaming, until
from tests.support.threads import serving

LONG_S = 60.0  # no test waits that long: whoever waits for it fails


def slow_down(hub: Hub) -> None:
    """As if the last fan-out had taken so long."""
    hub._pace._fan_out_s = LONG_S


def record(data: bytes, log_only: bool = False) -> NewRecord:
    return NewRecord(make_uuid(1), "e", data, "ada", log_only=log_only)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_lone_event_never_waits_however_long_the_last_fan_out_took(tmp_path: Path, loop: str) -> None:
    with serving(tmp_path, loop) as server, streaming(server) as reader:
        reader.wait("$ready")
        slow_down(server.broker.hub)
        server.publish("1")
        reader.wait("e")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    "log_only", [False, True], ids=["and goes out with them", "and out alone if they bring nothing"]
)
def test_an_event_waits_for_the_writes_that_are_being_committed(tmp_path: Path, loop: str, log_only: bool) -> None:
    with serving(tmp_path, loop, commit_records_max=1, batch_records_max=1) as server, streaming(server) as reader:
        reader.wait("$ready")
        hub, store = server.broker.hub, server.broker.store
        writer = store._writer  # type: ignore[attr-defined] # the test arranges what is committed together
        held_up = threading.Event()

        async def handed_over() -> None:
            await asyncio.sleep(0)  # the append begins
            await until(lambda: not writer._gathered)

        async def two_commits() -> int:
            slow_down(hub)
            # The thread is held up until both appends wait for it, each in a hand-over and so in a commit of its own.
            tasks = [asyncio.ensure_future(writer.call(lambda transaction: held_up.wait(LONG_S)))]
            for data in (b"1", b"2"):
                await handed_over()
                tasks.append(asyncio.ensure_future(store.append([record(data, log_only and data == b"2")])))
            await handed_over()
            held_up.set()
            await tasks[1]
            held = len(hub._turn)
            await asyncio.gather(*tasks)
            return held

        assert server.call(two_commits()) > 0, "the first one went out alone"
        expected = ["1"] if log_only else ["1", "2"]
        reader.wait("e", len(expected))  # as soon as the second is there
        assert [frame.data for frame in reader.records()] == expected


def test_an_event_waits_no_longer_than_a_fan_out_takes(tmp_path: Path) -> None:
    with serving(tmp_path, "uvloop") as server, streaming(server) as reader:
        reader.wait("$ready")
        hub = server.broker.hub
        hub._committing = lambda: True  # a commit that does not end
        server.publish("1")
        reader.wait("e")
