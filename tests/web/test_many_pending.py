"""Many scheduled records at a time: published in order when overdue, and at no cost while they wait."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

from broker.records import NewRecord, make_uuid
from broker.settings import Settings
from broker.store.sqlite.store import SQLiteStore
from tests.support.servers import ServerProcess, streaming, wait_for

PAST_US = 1_700_000_000_000_000  # long ago
FUTURE_US = 4_000_000_000_000_000  # far from now
AT_A_TIME = 5_000


def schedule_all(data: Path, due_us: list[int]) -> str:
    """Inserts a record for each of these times through the store, whose clock stands still, and returns the epoch."""

    async def run() -> str:
        settings = Settings(data=data)
        store = SQLiteStore(data / "broker.db", settings, lambda: PAST_US)
        await store.start(lambda commit: None)
        for start in range(0, len(due_us), AT_A_TIME):
            news = [
                NewRecord(make_uuid(PAST_US // 1_000), f"event/{number % 10}", b"%d" % number, "ada", "1", due)
                for number, due in enumerate(due_us[start : start + AT_A_TIME], start)
            ]
            await asyncio.gather(*[store.append([new]) for new in news])
        epoch = (await store.head()).epoch
        await store.stop()
        return epoch

    return asyncio.run(run())


def cpu_s(server: ServerProcess) -> float:
    """Processor time that the server has used so far; 0 where there is no /proc."""
    status = Path(f"/proc/{server.process.pid}/stat")
    if not status.exists():
        return 0.0
    fields = status.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_more_overdue_records_than_a_page_holds_are_published_in_order_at_start(tmp_path: Path) -> None:
    count = 5_000
    chance = random.Random(3)
    due = [PAST_US + 1 + chance.randrange(count // 2) for _ in range(count)]  # many share their time
    epoch = schedule_all(tmp_path, due)
    begun = time.monotonic()
    with ServerProcess(tmp_path) as server, streaming(server, last_id=f"{epoch}-0") as stream:
        wait_for(lambda: len(stream.records()) >= count, what="all records")
        took_s = time.monotonic() - begun
        stream.wait("$ready")
        with server.client("ada") as ada:
            last = ada.post("/insert", json={"event": "last", "data": None}).json()["id"]
        assert stream.wait("last")[-1].id == last
        records = stream.records()[:-1]
    assert [int(frame.data) for frame in records] == sorted(range(count), key=lambda number: (due[number], number))
    assert [frame.position for frame in records] == list(range(1, count + 1))
    print(f"\n{count:,} overdue records were with a subscriber {took_s:.2f} s after the start of the process")


def test_a_hundred_thousand_pending_records_cost_nothing_while_they_wait(tmp_path: Path) -> None:
    count, idle_s = 100_000, 1.0
    schedule_all(tmp_path, [FUTURE_US + number for number in range(count)])
    begun = time.monotonic()
    with ServerProcess(tmp_path) as server:
        start_s = time.monotonic() - begun
        with server.client("bob") as bob, streaming(server) as stream:  # ada has more than one user may have
            stream.wait("$ready")
            before = cpu_s(server)
            time.sleep(idle_s)  # what is measured
            used_s = cpu_s(server) - before
            begun = time.monotonic()
            for number in range(100):
                bob.post("/insert", json={"event": "now", "data": number})
            stream.wait("now", 100)
            insert_s = (time.monotonic() - begun) / 100
            assert [frame.event for frame in stream.records()] == ["now"] * 100
    assert used_s < idle_s / 10
    print(
        f"\n{count:,} pending: start-up {start_s * 1e3:.0f} ms, {used_s * 1e3:.0f} ms of processor time in "
        f"{idle_s:g} s of waiting, {insert_s * 1e3:.2f} ms for an insert to be answered"
    )
