"""The checker of the fault runs complains of every tampered history, and of none that is right."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest

from tests.faults.history import History, Insert, Row, Seen, View, check


def right() -> tuple[History, list[Row]]:
    """Three published at once, one scheduled and published, one cancelled, one whose answer was lost."""
    log = [
        Row("a", "x", 100, 1, 100, False, "a"),
        Row("b", "y", 500, 3, 510, False, "b"),
        Row("c", "y", 200, 2, 200, False, "c"),
        Row("d", "x", 900, None, None, True, "d"),
        Row("e", "x", 600, 4, 600, False, "e"),
    ]
    inserts = [
        Insert("a", acknowledged=True, position=1),
        Insert("b", due_us=500, acknowledged=True, cancel="too late"),
        Insert("c", acknowledged=True, position=2),
        Insert("d", due_us=900, acknowledged=True, cancel="cancelled"),
        Insert("e"),
        Insert("refused"),
    ]
    seen = [Seen(1, "a", 101), Seen(2, "c", 201), Seen(3, "b", 511), Seen(4, "e", 601)]
    late = [seen[0], seen[2], seen[3]]  # joined when y had another version already
    views = [View(list(seen), 0), View(list(seen), 0), View(late, 3)]
    return History({insert.uuid: insert for insert in inserts}, views), log


def test_a_right_history_passes() -> None:
    assert list(check(*right())) == []


def replace_row(log: list[Row], uuid: str, **changes: object) -> None:
    index = next(n for n, row in enumerate(log) if row.uuid == uuid)
    log[index] = log[index]._replace(**changes)  # type: ignore[arg-type] # names of its fields


def replace_seen(history: History, index: int, **changes: object) -> None:
    history.views[1].seen[index] = history.views[1].seen[index]._replace(**changes)  # type: ignore[arg-type] # as above


Tampering = Callable[[History, list[Row]], object]

TAMPERINGS: dict[str, tuple[Tampering, str]] = {
    "an acknowledged one is lost": (lambda h, log: log.pop(0), "a was acknowledged, and is not in the log"),
    "one is there twice": (lambda h, log: log.append(log[0]), "a is in the log 2 times"),
    "at another position than told": (lambda h, log: setattr(h.inserts["a"], "position", 2), "the log has it at 1"),
    "another due time": (lambda h, log: setattr(h.inserts["b"], "due_us", 501), "was due at 501"),
    "a cancelled one is published": (
        lambda h, log: replace_row(log, "d", position=5, published_us=900, cancelled=False), "cancellation was ack",
    ),
    "one that could not be cancelled is not published": (
        lambda h, log: replace_row(log, "b", position=None, published_us=None), "cancellation was refused",
    ),
    "published and cancelled": (lambda h, log: replace_row(log, "a", cancelled=True), "published and cancelled"),
    "never published": (lambda h, log: replace_row(log, "e", position=None, published_us=None), "e was never"),
    "a hole in the positions": (lambda h, log: replace_row(log, "e", position=5), "have a hole"),
    "a position twice": (lambda h, log: replace_row(log, "e", position=3), "have a hole, or one twice"),
    "published early": (lambda h, log: replace_row(log, "b", published_us=499), "published 1 µs early"),
    "the data of another": (lambda h, log: replace_row(log, "a", data_uuid="c"), "a has the data of c"),
    "nobody's record": (lambda h, log: h.inserts.pop("e"), "nobody inserted it"),
    "received early": (lambda h, log: replace_seen(h, 2, received_us=499), "subscriber 1: got b 1 µs early"),
    "one missed": (lambda h, log: h.views[1].seen.pop(1), "got position 3 in place of 2"),
    "the last one missed": (lambda h, log: h.views[1].seen.pop(), "got 3 records of 4"),
    "one twice": (lambda h, log: h.views[1].seen.insert(1, h.views[1].seen[0]), "got position 1 after 1"),
    "two in the wrong order": (lambda h, log: h.views[1].seen.reverse(), "got position 4 in place of 1"),
    "another record": (lambda h, log: replace_seen(h, 1, uuid="b"), "got b at position 2, where the log has c"),
    "one beyond the log": (lambda h, log: h.views[1].seen.append(Seen(5, "x", 999)), "where the log has nothing"),
    "a snapshot without the latest of an event": (
        lambda h, log: h.views[2].seen.pop(0) and h.views[2].seen.pop(), "subscriber 2: holds x as of None",
    ),
    "a snapshot with another version": (
        lambda h, log: h.views[2].seen.__setitem__(1, Seen(2, "c", 201)), "holds y as of 2; its latest was at 3",
    ),
    "a hole after the snapshot": (lambda h, log: setattr(h.views[2], "snapshot_end", 1), "got position 3 in"),
    "told to forget": (lambda h, log: setattr(h.views[0], "resets", 1), "subscriber 0: was told to forget 1 times"),
    "told to skip": (lambda h, log: setattr(h.views[0], "skips", 1), "skipped 1 times"),
}  # fmt: skip


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_a_tampered_history_is_found_out(tampering: str) -> None:
    history, log = deepcopy(right())
    change, complaint = TAMPERINGS[tampering]
    change(history, log)
    assert complaint in "\n".join(check(history, log))
