"""The checker of the fault runs complains of every tampered history, and of none that is right."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest

from tests.faults.checker import check
from tests.faults.history import History, Insert, Row, Seen, View


def right() -> tuple[History, list[Row]]:
    """Three published at once, one scheduled and published, one cancelled, one whose answer was lost; then versions
    that end, a removal, changes under conditions, and a batch that cancels one record and schedules another one."""
    log = [
        Row("a", "x", 100, 1, 100, False, "a", 100),
        Row("b", "y", 500, 3, 510, False, "b", 150),
        Row("c", "y", 200, 2, 200, False, "c", 200),
        Row("d", "x", 900, None, None, True, "d", 250),
        Row("e", "x", 600, 4, 600, False, "e", 600),
        # A version that ends, and is brought back under the condition that it has ended.
        Row("f", "z", 610, 5, 610, False, "f", 610, "ada", 700),
        Row("f-end", "z", 700, 6, 710, False, None, 710, "ada", None, "f"),
        Row("g", "z", 720, 7, 720, False, "g", 720, "ada", 800),
        # One is superseded at the very microsecond at which it would end, and the other one is removed.
        Row("h", "z", 800, 8, 805, False, "h", 730, "ada", 900),
        Row("i", "z", 810, 9, 810, False, None, 810),
        # Changes under conditions, which name the version by its uuid and by its position.
        Row("k", "s", 820, 10, 820, False, "k", 820),
        Row("l", "s", 830, 11, 830, False, "l", 830),
        Row("m", "s", 840, 12, 840, False, "m", 840),
        # Two records were scheduled, and the first one is replaced by a third one.
        Row("n", "t", 960, None, None, True, "n", 850),
        Row("o", "t", 970, 13, 971, False, "o", 860),
        Row("p", "t", 980, 14, 980, False, "p", 870),
    ]
    inserts = [
        Insert("a", "x", acknowledged=True, position=1),
        Insert("b", "y", due_us=500, acknowledged=True, cancel="too late"),
        Insert("c", "y", acknowledged=True, position=2),
        Insert("d", "x", due_us=900, acknowledged=True, cancel="cancelled"),
        Insert("e", "x"),
        Insert("refused", "x"),
        Insert("f", "z", acknowledged=True, position=5, until_us=700),
        Insert("g", "z", acknowledged=True, position=7, until_us=800, if_latest="f-end", beside="h"),
        Insert("h", "z", due_us=800, acknowledged=True, until_us=900, beside="g"),
        Insert("i", "z", acknowledged=True, position=9, removal=True),
        Insert("k", "s", acknowledged=True, position=10, if_latest="none"),
        Insert("l", "s", acknowledged=True, position=11, if_latest="k"),
        Insert("m", "s", acknowledged=True, position=12, if_latest=11),
        Insert("too late", "s", if_latest=11, refused="not-latest", told="m", sent=2),
        Insert("n", "t", due_us=960, acknowledged=True, cancel="cancelled"),
        Insert("o", "t", due_us=970, acknowledged=True),
        Insert("p", "t", due_us=980, acknowledged=True, replaces="n"),
    ]
    frames = [
        Seen(row.position, row.event, row.data_uuid, row.published_us + 1, row.uuid, row.until_us)
        for row in log
        if row.position is not None and row.published_us is not None
    ]
    frames.sort()
    late = [frames[0], *frames[2:]]  # joined when y had another version already
    state = [frames[position - 1] for position in (3, 4, 12, 14)]
    views = [View(list(frames), 0), View(list(frames), 0, records=True), View(late, 3), View(list(state), 14)]
    last = {"the snapshot": View(list(state), 14, records=True)}
    return History({insert.uuid: insert for insert in inserts}, views, last), log


def test_a_right_history_passes() -> None:
    assert list(check(*right())) == []


def replace_row(log: list[Row], uuid: str, **changes: object) -> object:
    index = next(n for n, row in enumerate(log) if row.uuid == uuid)
    log[index] = log[index]._replace(**changes)  # type: ignore[arg-type] # names of its fields
    return log


def replace_seen(history: History, index: int, **changes: object) -> None:
    history.views[1].seen[index] = history.views[1].seen[index]._replace(**changes)  # type: ignore[arg-type] # as above


def add(log: list[Row], like: str, uuid: str, **changes: object) -> object:
    log.append(next(row for row in log if row.uuid == like)._replace(uuid=uuid))
    return replace_row(log, uuid, **changes)


def drop(log: list[Row], uuid: str) -> None:
    log[:] = [row for row in log if row.uuid != uuid]


Tampering = Callable[[History, list[Row]], object]

TAMPERINGS: dict[str, tuple[Tampering, str]] = {
    "an acknowledged one is lost": (lambda h, log: log.pop(0), "a was acknowledged, and is not in the log"),
    "one is there twice": (lambda h, log: log.append(log[0]), "a is in the log 2 times"),
    "at another position than told": (lambda h, log: setattr(h.inserts["a"], "position", 2), "the log has it at 1"),
    "another due time": (lambda h, log: setattr(h.inserts["b"], "due_us", 501), "was due at 501"),
    "a cancelled one is published": (
        lambda h, log: replace_row(log, "d", position=15, published_us=900, cancelled=False), "cancellation was ack",
    ),
    "one that could not be cancelled is not published": (
        lambda h, log: replace_row(log, "b", position=None, published_us=None), "cancellation was refused",
    ),
    "published and cancelled": (lambda h, log: replace_row(log, "a", cancelled=True), "published and cancelled"),
    "never published": (lambda h, log: replace_row(log, "e", position=None, published_us=None), "e was never"),
    "a hole in the positions": (lambda h, log: replace_row(log, "p", position=15), "have a hole"),
    "a position twice": (lambda h, log: replace_row(log, "e", position=3), "have a hole, or one twice"),
    "published early": (lambda h, log: replace_row(log, "b", published_us=499), "published 1 µs early"),
    "the data of another": (lambda h, log: replace_row(log, "a", data_uuid="c"), "a has the data of c"),
    "nobody's record": (lambda h, log: h.inserts.pop("e"), "nobody inserted it"),
    "received early": (lambda h, log: replace_seen(h, 2, received_us=499), "subscriber 1: got b 1 µs early"),
    "one missed": (lambda h, log: h.views[1].seen.pop(1), "got position 3 in place of 2"),
    "the last one missed": (lambda h, log: h.views[1].seen.pop(), "got 13 records of 14"),
    "one twice": (lambda h, log: h.views[1].seen.insert(1, h.views[1].seen[0]), "got position 1 after 1"),
    "two in the wrong order": (lambda h, log: h.views[1].seen.reverse(), "got position 14 in place of 1"),
    "another record": (lambda h, log: replace_seen(h, 1, uuid="b"), "got b at position 2, where the log has c"),
    "other data": (lambda h, log: replace_seen(h, 1, data_uuid="b"), "got c at position 2, where the log has c"),
    "another event": (lambda h, log: replace_seen(h, 1, event="x"), "got c at position 2, where the log has c"),
    "another end": (lambda h, log: replace_seen(h, 4, until_us=701), "got f at position 5, where the log has f"),
    "a removal with data": (lambda h, log: replace_seen(h, 5, data_uuid="f"), "got f-end at position 6, where"),
    "data that became null": (lambda h, log: replace_seen(h, 1, data_uuid=None), "got c at position 2, where"),
    "one beyond the log": (lambda h, log: h.views[1].seen.append(Seen(15, "x", "x", 999)), "where the log has nothing"),
    "a snapshot without the latest of an event": (
        lambda h, log: h.views[3].seen.pop(1), "subscriber 3: holds x as of None",
    ),
    "a snapshot with another version": (
        lambda h, log: h.views[2].seen.__setitem__(1, Seen(2, "y", "c", 201)), "holds y as of 2; its latest was at 3",
    ),
    "a hole after the snapshot": (lambda h, log: setattr(h.views[2], "snapshot_end", 1), "got position 3 in"),
    "told to forget": (lambda h, log: setattr(h.views[0], "resets", 1), "subscriber 0: was told to forget 1 times"),
    "a removed event in a snapshot": (
        lambda h, log: h.views[3].seen.insert(2, h.views[0].seen[7]), "3: holds z as of 8, and it is removed",
    ),
    "a removed event in a new snapshot": (
        lambda h, log: h.last["the snapshot"].seen.insert(2, h.views[0].seen[7]),
        "the snapshot at the end: holds z as of 8, and it is removed",
    ),
    "a removal in a new snapshot": (
        lambda h, log: h.last["the snapshot"].seen.insert(2, h.views[0].seen[8]), "at the end: position 9 is there",
    ),
    "an event missing in a new snapshot": (
        lambda h, log: h.last["the snapshot"].seen.pop(2), "at the end: holds s as of None; its latest was at 12",
    ),
    "a new snapshot of an earlier time": (
        lambda h, log: h.last.__setitem__("the snapshot", View(h.views[3].seen[:-1], 13, records=True)),
        "the snapshot at the end: got 13 records of 14",
    ),
    "an event that is removed under the eyes of a subscriber, and was not": (
        lambda h, log: replace_row(log, "i", data_uuid="i"), "i has the data of i",
    ),
    "a removal that is none": (lambda h, log: setattr(h.inserts["a"], "removal", True), "a has the data of a"),
    "an ending twice": (lambda h, log: add(log, "f-end", "again", position=15), "f has two endings"),
    "an ending early": (lambda h, log: replace_row(log, "f-end", published_us=699), "was published 1 µs early"),
    "an ending at another time": (
        lambda h, log: replace_row(log, "f-end", due_us=650), "f-end ends f, and has another event, user or time",
    ),
    "an ending of another event": (
        lambda h, log: replace_row(log, "f-end", event="s"), "f-end ends f, and has another event, user or time",
    ),
    "an ending of another user": (
        lambda h, log: replace_row(log, "f-end", user="eve"), "f-end ends f, and has another event, user or time",
    ),
    "an ending with data": (lambda h, log: replace_row(log, "f-end", data_uuid="f"), "f-end has the data of f"),
    "an ending of a version without an end": (
        lambda h, log: replace_row(log, "f-end", ends="a"), "f-end ends a, which has no end",
    ),
    "an ending of nothing": (lambda h, log: replace_row(log, "f-end", ends="?"), "f-end ends ?, which has no end"),
    "an ending of a version that was superseded": (
        lambda h, log: add(log, "f-end", "g-end", position=15, ends="g", due_us=800, published_us=985),
        "g has an ending, and i was the latest then",
    ),
    "an ending before the publication of the same microsecond": (
        lambda h, log: (
            add(log, "f-end", "g-end", position=8, ends="g", due_us=800, published_us=805, inserted_us=805),
            [replace_row(log, row.uuid, position=row.position + 1) for row in log[8:-1] if row.position],
        ),
        "h came after g-end, and its time was before that",
    ),
    "an ending missing before a record that was inserted": (
        lambda h, log: replace_row(log, "i", inserted_us=900), "h has no ending, and its end came before i",
    ),
    "an ending missing before a record that was scheduled": (
        lambda h, log: replace_row(log, "h", due_us=801), "g has no ending, and its end came before h",
    ),
    "an ending missing of the latest version": (
        lambda h, log: replace_row(log, "m", until_us=960), "m has no ending, and it is the latest version of s",
    ),
    "an ending that a publisher has inserted": (
        lambda h, log: h.inserts.__setitem__("f-end", Insert("f-end", "z")), "f-end ends f",
    ),
    "another end of a version": (lambda h, log: setattr(h.inserts["f"], "until_us", 701), "f was to end at 701"),
    "scheduled records in the wrong order": (
        lambda h, log: (replace_row(log, "o", position=14), replace_row(log, "p", position=13)),
        "o came after p, and its time was before that",
    ),
    "a condition that did not hold, of a uuid": (
        lambda h, log: setattr(h.inserts["m"], "if_latest", "k"), "m is in the log, and its condition did not hold: k",
    ),
    "a condition that did not hold, of a position": (
        lambda h, log: setattr(h.inserts["m"], "if_latest", 10), "m is in the log, and its condition did not hold: 10",
    ),
    "a condition that did not hold, of no state": (
        lambda h, log: setattr(h.inserts["m"], "if_latest", "none"), "did not hold: none; the latest was l at 11",
    ),
    "a condition on an event without state": (
        lambda h, log: setattr(h.inserts["k"], "if_latest", "a"), "did not hold: a; the latest was nothing",
    ),
    "a condition that held, and was refused": (
        lambda h, log: setattr(h.inserts["too late"], "told", "l"), "told that l is the latest: it held",
    ),
    "a condition of no state that held, and was refused": (
        lambda h, log: h.inserts["too late"].__dict__.update(if_latest="none", told=None),
        "too late was refused because of its condition",
    ),
    "an insert under a condition is lost": (lambda h, log: drop(log, "m"), "m was acknowledged, and is not in the log"),
    "an insert under a condition is there twice": (
        lambda h, log: log.append(log[12]._replace(position=15)), "m is in the log 2 times",
    ),
    "one that was refused": (lambda h, log: setattr(h.inserts["e"], "refused", "late"), "e was refused (late), and is"),
    "one of two in a batch": (lambda h, log: drop(log, "h"), "only one of g and h is in the log"),
    "a batch that cancelled, and did not insert": (lambda h, log: drop(log, "p"), "only one half of a batch was done"),
    "a batch that inserted, and did not cancel": (
        lambda h, log: replace_row(log, "n", position=15, published_us=985, cancelled=False), "only one half of a",
    ),
    "told to skip": (lambda h, log: setattr(h.views[0], "skips", 1), "skipped 1 times"),
}  # fmt: skip


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_a_tampered_history_is_found_out(tampering: str) -> None:
    history, log = deepcopy(right())
    change, complaint = TAMPERINGS[tampering]
    change(history, log)
    assert complaint in "\n".join(check(history, log))
