"""``broker verify`` and ``broker import`` on a log with removals, and with versions that end."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.errors import SettingsError
from broker.operations.export import export_log, import_log, read_head
from broker.operations.verify import verify
from broker.records import Cancel, seconds_text
from tests.support.operators import broker, stderr_of, tamper
from tests.support.store import START_US, Workbench

SECOND = 1_000_000


def at(seconds: int) -> int:
    return START_US + seconds * SECOND


def until(seconds: int) -> dict[str, Any]:
    return {"until": seconds_text(at(seconds)), "until_us": at(seconds)}


async def fill(workbench: Workbench) -> None:
    new = workbench.new
    async with workbench.opened() as store:
        cancelled = new("gone", later_us=50 * SECOND, uuid_given=True)
        await store.append(
            [
                new("gone", "1"),  # 1
                new("gone", "null"),  # 2, at position 2
                new("none", "null"),  # 3, at position 3, on an event without state
                new("ends", "4", **until(10)),
                new("ends", "5", 11 * SECOND),  # comes after the ending, 12
                new("next", "6", **until(20)),
                new("next", "7", 20 * SECOND),  # supersedes the version at the microsecond in which it would end
                new("stays", "8", **until(1_000)),
                new("waits", "null", 2_000 * SECOND),  # 9
                cancelled,  # 10
                new("other", "11", log_only=True),
                Cancel(cancelled.uuid, "ada"),
            ]
        )
        workbench.now_us = at(12)
        await store.publish_due()  # 12 is the ending of 4, which was due at 10
        workbench.now_us = at(21)
        await store.publish_due()
        await store.append([new("again", "13", **until(30))])
        workbench.now_us = at(22)
        await store.append([new("again", "14")])


@pytest.fixture(name="state_log", scope="module")
def make_state_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    asyncio.run(fill(Workbench(folder)))
    return folder


@pytest.fixture(name="changed_log")
def make_changed_log(state_log: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(state_log, tmp_path / "changed"))


def faults(folder: Path) -> str:
    return "\n".join(map(str, verify(folder / "broker.db", lambda _: None)))


def ends_at(number: int, seconds: int) -> str:
    text, microseconds = until(seconds).values()
    return f"UPDATE endings SET until = '{text}', until_us = {microseconds} WHERE number = {number}"


def test_the_log_is_as_the_tests_here_expect_it(state_log: Path) -> None:
    assert "14 records, no faults" in stderr_of(broker("verify", "--data", state_log))
    log = sqlite3.connect(state_log / "broker.db")
    assert log.execute("SELECT number FROM publications ORDER BY position").fetchall() == [
        (number,) for number in (1, 2, 3, 4, 6, 8, 12, 5, 7, 13, 14)
    ]
    assert log.execute("SELECT event, position, removed FROM events ORDER BY event").fetchall() == [
        ("again", 11, 0), ("ends", 8, 0), ("gone", 2, 1), ("next", 9, 0), ("stays", 6, 0), ("waits", None, 0),
    ]  # fmt: skip
    log.close()


@pytest.mark.parametrize(
    ("tamperings", "complaint"),
    [
        (["UPDATE events SET removed = 0 WHERE event = 'gone'"], "the event says that it is none, or the other way"),
        (["UPDATE events SET removed = 1 WHERE event = 'ends'"], "the other way round: ends"),
        (["UPDATE events SET removed = 1 WHERE event = 'waits'"], "the other way round: waits"),
        (["UPDATE events SET bytes = 4, reserved = 4 WHERE event = 'gone'"], "another length than it says: gone"),
        (["INSERT INTO events VALUES ('none', 3, 0, 0, 0, 1, NULL, 0, '')"], "records that changed its state: none"),
        (["UPDATE events SET position = 1 WHERE event = 'gone'"], "records that changed its state: gone"),
        (["UPDATE events SET position = 4 WHERE event = 'ends'"], "records that changed its state: ends"),
        (["DELETE FROM events WHERE event = 'gone'"], "but no row in the table events: gone"),
        (["DELETE FROM events WHERE event = 'waits'"], "but no row in the table events: waits"),
        (["UPDATE events SET until_us = NULL WHERE event = 'stays'"], "ends at another time than it says: stays"),
        (["UPDATE events SET until_us = 1 WHERE event = 'ends'"], "ends at another time than it says: ends"),
        (["UPDATE events SET reserved = 3 WHERE event = 'waits'"], "bytes than its records may need: waits"),
        (["UPDATE state SET removals = 0"], "the counters of the log are wrong"),
        (["UPDATE state SET event_names = event_names + 1"], "the counters of the log are wrong"),
        (["UPDATE state SET removals_floor = -1"], "the removals that are known is not between 0 and the head: -1"),
        (["UPDATE state SET removals_floor = 12"], "the removals that are known is not between 0 and the head: 12"),
        (["UPDATE endings SET until = 'banana' WHERE number = 4"], "record 4 cannot be read: until"),
        (["UPDATE endings SET until = '1_700_000_010' WHERE number = 4"], "record 4 cannot be read: until"),
        (["UPDATE endings SET until_us = until_us + 1 WHERE number = 4"], "record 4 cannot be read: until"),
        (["UPDATE endings SET until_us = 'x' WHERE number = 6"], "record 7 cannot be compared"),
        ([ends_at(4, 0)], "record 4 cannot be read: until: 1700000000 is not later than"),
        (["INSERT INTO endings VALUES (99, '1', 1000000, NULL)"], "a row of the table endings has no record: 99"),
        (["INSERT INTO endings VALUES (1, NULL, NULL, NULL)"], "neither an end (until) nor a version that its record"),
        (["UPDATE endings SET ends = x'00' WHERE number = 4"], "its record ends, or both: 4"),
        (["INSERT INTO endings SELECT 3, until, until_us, NULL FROM endings WHERE number = 8"],
         "although it is log-only or removes the event: 3"),
        (["INSERT INTO endings SELECT 11, until, until_us, NULL FROM endings WHERE number = 8"],
         "although it is log-only or removes the event: 11"),
        (["UPDATE records SET data = '1' WHERE number = 12"], "an ending has other data than null, or was not"),
        (["UPDATE publications SET published_us = published_us + 1 WHERE number = 12"],
         "was not published at the time when it was inserted: 12"),
        (["DELETE FROM publications WHERE number = 12"], "was not published at the time when it was inserted: 12"),
        (["UPDATE records SET timestamp = '1700000011' WHERE number = 12"], "record 12 cannot be read: timestamp"),
        (["UPDATE records SET timestamp = NULL WHERE number = 12"], "record 12 cannot be read: timestamp"),
        (["UPDATE records SET due_us = due_us - 1 WHERE number = 12"], "or another time, than its version says: 12"),
        (["UPDATE records SET due_us = inserted_us + 1 WHERE number = 12"], "record 12 cannot be read: timestamp"),
        (["UPDATE records SET user = 'bob' WHERE number = 12"], "an ending has another user, or another time"),
        (["UPDATE records SET event = 'stays' WHERE number = 12"], "just after the version that it ends: 12"),
        (["UPDATE endings SET ends = (SELECT uuid FROM records WHERE number = 1) WHERE number = 12"],
         "just after the version that it ends: 12"),
        (["INSERT INTO endings SELECT 2, NULL, NULL, uuid FROM records WHERE number = 4"],
         "just after the version that it ends: 2"),
        (["DELETE FROM endings WHERE number = 12"], "has no ending, and its end (until) came before the next"),
        ([ends_at(6, 19)], "its end (until) came before the next: 6"),
        ([ends_at(13, 22)], "its end (until) came before the next: 13"),
        ([ends_at(8, 22), "UPDATE events SET until_us = (SELECT until_us FROM endings WHERE number = 8) "
          "WHERE event = 'stays'"], "its end (until) came before the newest record was written: stays"),
        ([f"UPDATE records SET due_us = {at(10)}, timestamp = '{seconds_text(at(10))}' WHERE number = 5"],
         "a record was published after an ending, and was due before it: 5"),
        (["DROP INDEX removals"], "the schema lacks (a part of) the index: removals (position)"),
        (["ALTER TABLE endings DROP COLUMN until"], "no such column"),
    ],
)  # fmt: skip
def test_verify_complains_of_tampering_with_removals_and_endings(
    changed_log: Path, tamperings: list[str], complaint: str
) -> None:
    for tampering in tamperings:
        tamper(changed_log, tampering)
    try:
        found = faults(changed_log)
    except SettingsError as error:
        found = str(error)
    assert complaint in found


def test_a_removal_up_to_the_floor_may_be_missing(changed_log: Path) -> None:
    tamper(changed_log, "DELETE FROM events WHERE event = 'gone'")
    tamper(changed_log, "UPDATE state SET removals_floor = 2, removals = 0")
    assert faults(changed_log) == ""
    tamper(changed_log, "UPDATE state SET removals_floor = 1")
    assert "no row in the table events: gone" in faults(changed_log)


def test_an_end_just_before_or_just_after_the_next_version_needs_no_ending(changed_log: Path) -> None:
    """Version 6 is superseded at 20 s by a record that was pending, and version 13 at 22 s by a new one."""
    tamper(changed_log, ends_at(6, 20))
    tamper(changed_log, ends_at(13, 23))
    assert faults(changed_log) == ""


def lines_of(folder: Path) -> list[bytes]:
    return list(export_log(folder / "broker.db", lambda _: None))


def read_in(folder: Path, lines: list[bytes]) -> None:
    rest = iter(lines)
    import_log(folder / "broker.db", read_head(rest), rest, lambda _: None)


def changed(number: int, **fields: Any) -> Callable[[list[bytes]], list[bytes]]:
    """Replaces fields in the line of record ``number``; the head is number 0."""

    def change(lines: list[bytes]) -> list[bytes]:
        line = json.dumps(json.loads(lines[number]) | fields).encode()
        return [*lines[:number], line, *lines[number + 1 :]]

    return change


def test_an_import_has_the_same_removals_and_endings(state_log: Path, tmp_path: Path) -> None:
    lines = lines_of(state_log)
    read_in(tmp_path, lines)
    assert lines_of(tmp_path)[1:] == lines[1:]
    for table in ("records", "publications", "cancellations", "endings", "pending", "events", "state"):
        before, after = (
            sqlite3.connect(folder / "broker.db").execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
            for folder in (state_log, tmp_path)
        )
        assert after == before, table


def test_an_export_of_the_first_format_is_imported(state_log: Path, tmp_path: Path) -> None:
    """It was written by a Broker in which no version ended. A version that ended is a removal by somebody there."""
    lines = changed(0, broker=1)(lines_of(state_log))
    ending = json.loads(lines[12])
    records = [json.loads(line) for line in lines[1:]]
    records[11] |= {"timestamp": seconds_text(ending["due_us"])}
    old = [{name: record[name] for name in record if name not in ("until", "ends", "reason")} for record in records]
    read_in(tmp_path, [lines[0], *(json.dumps(record).encode() for record in old)])
    assert faults(tmp_path) == ""
    head, *new = lines_of(tmp_path)
    assert json.loads(head)["broker"] == 4
    assert [json.loads(line) for line in new] == [
        record | {"until": None, "ends": None, "reason": None} for record in old
    ]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (changed(0, broker=1), "line 5: until, ends: the first line says format 1, which has no such fields"),
        (changed(0, broker=5), "line 1: this Broker reads the formats 1 to 4, and this is 5; update Broker"),
        (changed(4, until="banana"), "line 5: until: "),
        (changed(4, until="1700000000"), "line 5: until: 1700000000 is not later than due_us"),
        (changed(4, until=None), "an ending has another user, or another time, than its version says: 12"),
        (changed(12, ends=None), "a version has no ending, and its end (until) came before the next: 4"),
        (changed(12, ends="x"), "line 13: ends: "),
        (changed(12, timestamp="1700000011"), "line 13: timestamp: 1700000011 is 1700000011000000 in microseconds"),
        (changed(12, timestamp=None), "line 13: timestamp: there is none, and due_us"),
        (changed(12, data=1), "an ending has other data than null"),
        (changed(12, by="bob"), "an ending has another user"),
        (changed(12, event="stays"), "just after the version that it ends: 12"),
        (changed(12, position=None, published_us=None), "positions are missing before: 8"),
        (changed(3, until="1700001000"), "although it is log-only or removes the event: 3"),
        (changed(6, until="1700000019"), "its end (until) came before the next: 6"),
    ],
)
def test_an_import_refuses_endings_that_broker_would_not_have_written(
    state_log: Path, tmp_path: Path, change: Any, complaint: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(complaint)):
        read_in(tmp_path, change(lines_of(state_log)))
