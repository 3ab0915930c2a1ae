"""Starting and resuming cost the same on a long log as on a short one.

The long log has 100,000 records here; ``BROKER_BIG=1 pytest -s tests/web/test_resume_size.py`` takes 1,000,000.
The figures are printed: what is held is what was read and sent, which does not depend on the machine's speed."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from broker.records import make_uuid
from tests.support.servers import ServerProcess, open_stream, wait_for

BIG = 1_000_000 if os.environ.get("BROKER_BIG") else 100_000
SMALL = 10_000
EVENTS = 100
REPLAY_MAX = 10_000  # the setting's default
BASE_US = 1_700_000_000_000_000  # when the first record was inserted
STEP_US = 1_000

# The rows that the product writes for inserts without a timestamp, one after the other (a test below compares).
FILL = """
CREATE TEMP TABLE made AS
    WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < :records)
    SELECT n, :base + n * :step AS at_us, printf('event/%d', n % :events) AS event,
           printf('{"n":%d,"text":"%s"}', n, printf('%.*c', 20 + n % 160, 'x')) AS data
    FROM counted;
INSERT INTO records SELECT n, new_uuid(at_us), event, 'ada', NULL, at_us, 0, at_us, data FROM made;
INSERT INTO publications SELECT n, n, at_us, sum(length(data)) OVER (ORDER BY n) FROM made;
INSERT INTO events SELECT event, max(n), length(data), 0, length(data), 0, NULL, 0, 'ada' FROM made GROUP BY event;
INSERT INTO usage SELECT 'ada', count(*), sum(bytes), 0 FROM events;
UPDATE state SET last_number = :records, head = :records,
    total_bytes = (SELECT max(total_bytes) FROM publications),
    event_names = (SELECT count(*) FROM events), reserved_bytes = (SELECT sum(reserved) FROM events);
DROP TABLE made;
"""


def data_of(number: int) -> dict[str, object]:
    """The same data as FILL makes."""
    return {"n": number, "text": "x" * (20 + number % 160)}


def fill(file: Path, records: int) -> None:
    """Writes ``records`` records into the empty log of a server that is not running."""
    values = {"records": records, "base": BASE_US, "step": STEP_US, "events": EVENTS}
    db = sqlite3.connect(file, isolation_level=None)
    db.create_function("new_uuid", 1, lambda at_us: make_uuid(at_us // 1_000).bytes)
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("PRAGMA synchronous = OFF")
    db.execute("BEGIN")
    for statement in FILL.strip().rstrip(";").split(";\n"):
        # sqlite3 wants no names that a statement does not have.
        db.execute(statement, {name: value for name, value in values.items() if f":{name}" in statement})
    db.execute("COMMIT")
    assert db.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    db.close()


@dataclass
class Resume:
    """What one resume took."""

    first_s: float  # to the first frame of a record
    ready_s: float
    frames: list[str]  # their events
    positions: list[int]
    read_bytes: int  # that the server read from files


def read_bytes(server: ServerProcess) -> int:
    """What the server's process has read so far, from files and the page cache; 0 where there is no /proc."""
    counters = Path(f"/proc/{server.process.pid}/io")
    if not counters.exists():
        return 0
    fields = dict(line.split(": ") for line in counters.read_text().splitlines())
    return int(fields["rchar"])


def resume(server: ServerProcess, last_id: str) -> Resume:
    before = read_bytes(server)
    begun_us = time.time_ns() // 1_000
    reader = open_stream(server, last_id=last_id)
    frames = reader.wait("$ready")
    reader.close()
    first = next(frame for frame in frames if not frame.event.startswith("$"))
    return Resume(
        (first.received_us - begun_us) / 1e6,
        (frames[-1].received_us - begun_us) / 1e6,
        [frame.event for frame in frames],
        [frame.position for frame in reader.records()],
        read_bytes(server) - before,
    )


@dataclass
class Measured:
    """A log of one size."""

    records: int
    filled_s: float
    start_s: float
    start_read_bytes: int
    near: Resume  # 100 behind
    whole: Resume  # as far behind as a replay goes
    middle: Resume
    first: Resume  # from position 1


def checkpoint(file: Path) -> int:
    """The position of the newest checkpoint. Until all are made, the server reads the log in the background."""
    with contextlib.closing(sqlite3.connect(file)) as db:
        (position,) = db.execute("SELECT coalesce(max(position), 0) FROM checkpoints").fetchone()
    return int(position)


def measure(data: Path, records: int) -> Measured:
    with ServerProcess(data) as server:  # makes the empty log
        server.stop()
        begun = time.monotonic()
        fill(data / "broker.db", records)
        filled_s = time.monotonic() - begun
        server.start()
        wait_for(lambda: checkpoint(data / "broker.db") > records - 3_000, what="the index of past states")
        server.stop()
        begun = time.monotonic()
        server.start()
        start_s = time.monotonic() - begun
        start_read = read_bytes(server)
        with server.client("ada") as ada:
            epoch = ada.get("/collections/event/0?limit=1").json()[0]["id"].partition("-")[0]
        positions = (records - 100, records - REPLAY_MAX, records // 2, 1)
        resumes = [resume(server, f"{epoch}-{position}") for position in positions]
        return Measured(records, filled_s, start_s, start_read, *resumes)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return measure(tmp_path_factory.mktemp("small"), SMALL)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return measure(tmp_path_factory.mktemp("big"), BIG)


def _rows(file: Path) -> dict[str, list[Any]]:
    """Every row of the log; uuids, users' ids and times are each run's own, and left out."""
    db = sqlite3.connect(file)
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    own = {"uuid", "inserted_us", "due_us", "published_us"}
    rows: dict[str, list[Any]] = {}
    for table in tables:
        if table in ("users", "epochs"):
            continue
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[1] not in own]
        types = ", ".join(f"{column}, typeof({column})" for column in columns)
        rows[table] = db.execute(f"SELECT {types} FROM {table} ORDER BY 1").fetchall()
    uuids = [(uuid[6] >> 4, uuid[8] >> 6, len(uuid)) for (uuid,) in db.execute("SELECT uuid FROM records")]
    times = db.execute("SELECT DISTINCT due_us - inserted_us, typeof(due_us) FROM records").fetchall()
    order = [uuid for (uuid,) in db.execute("SELECT uuid FROM records ORDER BY number")]
    assert [row[0] for row in db.execute("PRAGMA integrity_check")] == ["ok"]
    db.close()
    return {**rows, "uuids": sorted(set(uuids)), "times": times, "ordered": [order[::50] == sorted(order[::50])]}


def test_the_filled_log_has_the_rows_that_the_product_writes(tmp_path: Path) -> None:
    records = 250
    with ServerProcess(tmp_path / "filled") as server:
        server.stop()
        fill(server.data / "broker.db", records)
    with ServerProcess(tmp_path / "product") as server, server.client("ada") as ada:
        for number in range(1, records + 1):
            ada.post("/insert", json={"event": f"event/{number % EVENTS}", "data": data_of(number)})
        server.stop()
    filled, product = _rows(tmp_path / "filled" / "broker.db"), _rows(tmp_path / "product" / "broker.db")
    assert filled.keys() == product.keys()
    for table, rows in product.items():
        assert filled[table] == rows, table


def test_a_resume_within_the_replay_gets_every_record(small: Measured, big: Measured) -> None:
    head = big.records
    assert big.near.positions == list(range(head - 99, head + 1))
    assert big.whole.positions == list(range(head - REPLAY_MAX + 1, head + 1))
    assert small.first.positions == list(range(2, small.records + 1))


def test_a_resume_further_behind_is_told_so_and_gets_the_latest_of_each_event(big: Measured) -> None:
    for skipped in (big.middle, big.first):
        assert skipped.frames[0] == "$skipped"
        assert skipped.frames[-1] == "$ready"
        assert skipped.positions == list(range(big.records - EVENTS + 1, big.records + 1))
        assert skipped.frames[1:-1] == [f"event/{position % EVENTS}" for position in skipped.positions]


def test_starting_and_resuming_read_no_more_of_a_longer_log(small: Measured, big: Measured) -> None:
    _print(small, big)
    # An index may be a level or two deeper, and which reader thread has which page in its cache is chance.
    some = 1024 * 1024
    assert big.start_read_bytes <= small.start_read_bytes + some
    assert big.near.read_bytes <= small.near.read_bytes + some
    assert big.whole.read_bytes <= 2 * small.whole.read_bytes + some
    # The snapshot is in memory: hardly anything of the log is read.
    assert big.middle.read_bytes <= some
    assert big.first.read_bytes <= some


def test_starting_and_resuming_take_no_longer_on_a_longer_log(small: Measured, big: Measured) -> None:
    """Generous: a tenfold or hundredfold log may take three times as long, and the machine may pause for half a
    second. What grew with the log would take longer by far."""
    assert big.start_s <= 3 * small.start_s + 0.5
    for name in ("near", "whole", "middle", "first"):
        on_big: Resume = getattr(big, name)
        on_small: Resume = getattr(small, name)
        assert on_big.first_s <= 3 * on_small.first_s + 0.5, name
        assert on_big.ready_s <= 3 * on_small.ready_s + 0.5, name


def _print(*logs: Measured) -> None:
    for log in logs:
        print(f"\n{log.records:,} records (written in {log.filled_s:.1f} s)")
        print(f"  start-up               {log.start_s * 1e3:8.1f} ms, {log.start_read_bytes / 1024:8.0f} KiB read")
        for name, each in (
            ("100 behind", log.near),
            (f"{REPLAY_MAX:,} behind", log.whole),
            ("in the middle", log.middle),
            ("at position 1", log.first),
        ):
            print(
                f"  resume {name:15} {each.first_s * 1e3:8.1f} ms to the first record, {each.ready_s * 1e3:8.1f} ms to "
                f"$ready, {len(each.positions):6,} records, {each.read_bytes / 1024:8.0f} KiB read"
                f"{', $skipped' if '$skipped' in each.frames else ''}"
            )
