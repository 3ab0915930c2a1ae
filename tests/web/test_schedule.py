"""Scheduled publication on real time: never early, once, in order; also when nobody listens or nothing runs."""

from __future__ import annotations

import random
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.servers import Frame, ServerProcess, streaming, wait_for

THREADS = 8


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path) as running:
        yield running


def schedule(client: httpx.Client, event: str, data: object, due_us: int) -> dict[str, Any]:
    """Inserts for ``due_us``, exactly."""
    return schedule_all(client, [(event, data, due_us)])[0]


def schedule_all(client: httpx.Client, rows: list[tuple[str, object, int]]) -> list[dict[str, Any]]:
    """In one request, so that all are there long before the first is due."""
    body = ",".join(
        f'{{"event":"{event}","data":{data},"timestamp":{due_us // 1_000_000}.{due_us % 1_000_000:06d}}}'
        for event, data, due_us in rows
    )
    answer = client.post("/insert", content=f"[{body}]", headers={"Content-Type": "application/json"})
    assert answer.status_code == 201, answer.text
    records: list[dict[str, Any]] = answer.json()
    return records


def from_now(seconds: float) -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1_000 + round(seconds * 1e6)


def wait_until(due_us: int) -> None:
    wait_for(lambda: time.time_ns() // 1_000 >= due_us, what="the due time")


def log_of(client: httpx.Client, event: str) -> list[dict[str, Any]]:
    log: list[dict[str, Any]] = client.get(f"/collections/{event}").raise_for_status().json()
    return log


def each_of(items: list[Any], work: Callable[[httpx.Client, Any], Any], broker: ServerProcess) -> list[Any]:
    """``work`` on each item, from several threads at a time, each with a connection of its own."""
    local = threading.local()

    def run(item: Any) -> Any:
        if not hasattr(local, "client"):
            local.client = broker.client()
            local.client.headers["Authorization"] = token
            clients.append(local.client)
        return work(local.client, item)

    clients: list[httpx.Client] = []
    with broker.client("ada") as ada:
        token = ada.headers["Authorization"]
    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(run, items))
    for client in clients:
        client.close()
    return results


def test_a_subscriber_that_was_away_across_the_due_time_gets_the_record_on_resume(broker: ServerProcess) -> None:
    with broker.client("ada") as ada:
        with streaming(broker) as away:
            left_at = away.wait("$ready")[-1].id
        record = schedule(ada, "away", 1, from_now(1))
        assert record["published"] is False
        assert record["id"] is None
        wait_for(lambda: log_of(ada, "away")[0]["published"], what="the publication")
        with streaming(broker, last_id=left_at) as back:
            frames = back.wait("$ready")
    assert [(frame.event, frame.data) for frame in frames[:-1]] == [("away", "1")]
    assert frames[0].id == frames[1].id


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_due_while_the_server_was_down_is_published_once_at_start_in_order(
    broker: ServerProcess, number: signal.Signals
) -> None:
    # How long it takes until the server is down depends on the machine, and on what else it does.
    began_us = from_now(0)
    with broker.client("ada") as ada:
        schedule(ada, "rehearsal", 1, from_now(3_600))
    broker.stop(number)
    took_us = from_now(0) - began_us
    broker.start()
    with broker.client("ada") as ada:
        with streaming(broker) as away:
            left_at = away.wait("$ready")[-1].id
        due = from_now(0.5) + 2 * took_us
        # (timestamp, number): the order is 3, 1, 4, 0, 2; 5 is not due yet.
        offsets = [200, 100, 300, 0, 100, 60_000_000]
        for data, offset in enumerate(offsets):
            schedule(ada, "down", data, due + offset)
    broker.stop(number)
    assert from_now(0) < due, "the machine was too slow for this test: it went down after the due time"
    wait_until(due + 300)
    for _ in range(2):  # a second start publishes nothing again
        broker.start()
        with streaming(broker, last_id=left_at) as back, broker.client("ada") as ada:
            # Published at start: nobody has inserted anything since.
            back.wait("down", 5)
            ada.post("/insert", json={"event": "after", "data": None})
            frames = back.wait("after")
            log = log_of(ada, "down")
        records = [frame for frame in frames if frame.event == "down"]
        assert [frame.data for frame in records] == ["3", "1", "4", "0", "2"]
        assert [frame.position for frame in records] == [1, 2, 3, 4, 5]
        assert [each["published"] for each in log] == [True] * 5 + [False]
        broker.stop(number)


def test_a_record_that_is_due_in_the_past_overtakes_nothing_that_was_due_before_it(broker: ServerProcess) -> None:
    with broker.client("ada") as ada, streaming(broker) as stream:
        due = from_now(0.2)
        schedule(ada, "state", '"scheduled"', due)
        wait_until(due)
        schedule(ada, "state", '"newer"', due - 1_000_000)
        stream.wait("state", 2)
        assert [frame.data for frame in stream.records()] == ['"scheduled"', '"newer"']
    with streaming(broker) as fresh:
        assert fresh.wait("$ready")[0].data == '"newer"'


@dataclass
class Answer:
    """Of a call that was aimed at a time."""

    status: int
    sent_us: int
    answered_us: int


def aimed(client: httpx.Client, at_us: int, path: str, body: object = None) -> Answer:
    """Posts at ``at_us``: a race needs aiming, so this sleeps."""
    time.sleep(max(0, at_us - from_now(0)) / 1e6)
    sent_us = from_now(0)
    status = client.post(path, json=body).status_code
    return Answer(status, sent_us, from_now(0))


def pace_of(broker: ServerProcess) -> int:
    """Returns how many microseconds should be between two due times, so that cancelling keeps up: twice as many as
    a cancel takes now, of several threads at a time."""
    unknown = [str(uuid.uuid4()) for _ in range(100)]
    began_us = from_now(0)
    each_of(unknown, lambda client, each: client.post(f"/cancel/{each}"), broker)
    return max(4_000, 2 * (from_now(0) - began_us) // len(unknown))


def test_a_cancel_that_races_the_due_time_has_one_outcome_that_both_sides_are_told(broker: ServerProcess) -> None:
    races = 500
    chance = random.Random(1)
    pace_us = pace_of(broker)
    with broker.client("ada") as ada, streaming(broker) as stream:
        stream.wait("$ready")
        first_due = from_now(4)  # a busy machine takes that long to schedule them all
        dues = [first_due + race * pace_us for race in range(races)]
        records = schedule_all(ada, [(f"race/{race % 7}", race, dues[race]) for race in range(races)])
        aims = [due + chance.randrange(-5 * pace_us // 4, 3 * pace_us // 4) for due in dues]

        def cancel(client: httpx.Client, race: int) -> Answer:
            return aimed(client, aims[race], f"/cancel/{records[race]['uuid']}")

        answers: list[Answer] = each_of(list(range(races)), cancel, broker)
        # The last thing that can be in the stream: everything before it has come by then.
        ada.post("/insert", json={"event": "end", "data": None})
        frames = stream.wait("end")
        log = {each["uuid"]: each for name in range(7) for each in log_of(ada, f"race/{name}")}
        again: list[Answer] = each_of(list(range(races)), cancel, broker)
    statuses = [answer.status for answer in answers]
    published, cancelled = statuses.count(409), statuses.count(200)
    assert published + cancelled == races, set(statuses)
    assert min(published, cancelled) > 0, "there was no race"
    assert [answer.status for answer in again] == statuses, "asked again, the answer is the same"
    streamed = [int(frame.data) for frame in frames if frame.event.startswith("race/")]
    assert sorted(streamed) == [race for race in range(races) if statuses[race] == 409]
    assert len(log) == races
    close = 0
    for race, (record, answer) in enumerate(zip(records, answers, strict=True)):
        entry = log[record["uuid"]]
        assert entry["data"] == race
        assert entry["published"] is True
        assert entry["cancelled"] is (answer.status == 200)
        assert (entry["id"] is None) is (answer.status == 200)
        if answer.sent_us >= dues[race]:
            assert answer.status == 409, "at or after the due time it is too late"
        elif answer.answered_us < dues[race]:
            assert answer.status == 200, "before the due time it is in time"
        else:
            close += 1
    print(f"\n{races} races: {cancelled} cancelled, {published} published; {close} across the due time")


def test_an_insert_at_or_after_the_due_time_comes_after_what_was_due(broker: ServerProcess) -> None:
    races = 200
    chance = random.Random(2)
    pace_us = pace_of(broker)
    with broker.client("ada") as ada, streaming(broker) as stream:
        stream.wait("$ready")
        first_due = from_now(4)  # a busy machine takes that long to schedule them all
        dues = [first_due + race * pace_us for race in range(races)]
        schedule_all(ada, [(f"race/{race}", '"due"', dues[race]) for race in range(races)])
        aims = [due + chance.randrange(0, 1_000) for due in dues]

        def insert(client: httpx.Client, race: int) -> Answer:
            return aimed(client, aims[race], "/insert", {"event": f"race/{race}", "data": "newer"})

        answers: list[Answer] = each_of(list(range(races)), insert, broker)
        ada.post("/insert", json={"event": "end", "data": None})
        frames = stream.wait("end")
    order: dict[str, list[str]] = {}
    for frame in frames:
        order.setdefault(frame.event, []).append(frame.json())
    for race, answer in enumerate(answers):
        assert answer.status == 201
        assert answer.sent_us >= dues[race]
        assert order[f"race/{race}"] == ["due", "newer"]


def test_a_thousand_records_due_over_two_seconds_come_in_order_and_none_early(broker: ServerProcess) -> None:
    count, over_us = 1_000, 2_000_000
    chance = random.Random(7)
    with broker.client("ada") as ada, streaming(broker) as stream:
        stream.wait("$ready")
        schedule_all(ada, [("far", n, from_now(3_600)) for n in range(100)])
        first_due = from_now(4)
        # Every tenth shares its due time with another one.
        offsets = [chance.randrange(over_us) if n % 10 else chance.randrange(20) * 100_000 for n in range(count)]
        schedule_all(ada, [("due", n, first_due + offset) for n, offset in enumerate(offsets)])
        assert from_now(0) < first_due, "inserting took too long"
        stream.wait("due", count, bound_s=20)
        log = log_of(ada, "due")  # in the order of numbers
    frames = stream.records()
    due = {each["data"]: first_due + offsets[each["data"]] for each in log}
    assert [each["data"] for each in sorted(log, key=lambda each: due[each["data"]])] == [
        int(frame.data) for frame in frames
    ]
    assert [frame.position for frame in frames] == list(range(1, count + 1))
    late = sorted(_lateness_us(frame, due) for frame in frames)
    assert late[0] >= 0, f"{-late[0]} µs early"
    for each in log:
        assert each["published_at"] >= each["timestamp"]
    print(
        f"\n{count} records due over {over_us / 1e6:g} s: late by {late[count // 2] / 1e3:.2f} ms (p50), "
        f"{late[count * 99 // 100] / 1e3:.2f} ms (p99), {late[-1] / 1e3:.2f} ms (worst)"
    )


def _lateness_us(frame: Frame, due: dict[int, int]) -> int:
    return frame.received_us - due[int(frame.data)]
