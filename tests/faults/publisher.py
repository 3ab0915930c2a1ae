"""The publishers of a run under faults: each does one thing after the other, and remembers every answer."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from tests.faults.history import History, Insert
from tests.support.connection import CUT_S, Connection, Response

SHARED = 8  # events that all publishers change under conditions
ATTEMPTS = 3  # at a change under a condition, each with a new uuid and with the latest version that is known then
# No record is due, and no version ends, later than this. So a run does not wait longer at its end.
AHEAD_US = 3_000_000
TEXT = "some forty characters of an ordinary event"


class Publisher:
    """Mutable state: what it knows of the shared events: the latest record of each, or none if it knows none. What it
    inserts goes into ``history``, and what went wrong into ``faults``."""

    def __init__(
        self, connection: Connection, dice: random.Random, history: History, counts: Counter[str], faults: list[str]
    ) -> None:
        self._connection = connection
        self._dice = dice
        self._history = history
        self._counts = counts
        self._faults = faults
        self._latest: dict[str, Any] = {}

    async def work(self, pause_s: float, stopped: Callable[[], bool]) -> None:
        """``pause_s``: between two things, at most."""
        while not stopped():
            await self._something()
            await asyncio.sleep(self._dice.uniform(0, pause_s))
        self._connection.close()

    async def _something(self) -> None:
        chance = self._dice.random()
        if chance < 0.42:
            await self._insert(self._new())
        elif chance < 0.62:
            await self._schedule()
        elif chance < 0.68:
            await self._insert(self._new(removal=True))
        elif chance < 0.80:
            await self._insert_until()
        elif chance < 0.94:
            await self._change()
        else:
            await self._move()

    def _new(self, event: str = "", **fields: Any) -> Insert:
        uuid = str(uuid4())
        return Insert(uuid, event or uuid[:2], **fields)

    async def _schedule(self) -> None:
        """Schedules a record, or a removal, and perhaps cancels it at about the time when it is due."""
        due_us = _now_us() + self._dice.randrange(50_000, AHEAD_US)
        insert = self._new(due_us=due_us, removal=self._dice.random() < 0.15)
        if await self._insert(insert) and self._dice.random() < 0.4:
            await asyncio.sleep(max(0.0, (due_us - _now_us()) / 1e6) * self._dice.choice([0, 0.5, 1, 1]))
            response = await self._insist(f"/cancel/{insert.uuid}", b"{}")
            if response.status not in (200, 409):
                self._faults.append(f"a cancellation was answered {response.status}: {response.body!r}")
                return
            self._cancelled(insert, response.status == 200)

    async def _insert_until(self) -> None:
        """Inserts or schedules a version that ends; or two versions, of which the second one is due at the very
        microsecond at which the first one would end."""
        now_us, dice = _now_us(), self._dice
        if dice.random() < 0.3:
            due_us = now_us + dice.randrange(50_000, AHEAD_US // 2)
            await self._insert(self._new(due_us=due_us, until_us=due_us + dice.randrange(1, AHEAD_US // 2)))
            return
        until_us = now_us + dice.randrange(100_000, AHEAD_US)
        insert = self._new(until_us=until_us)
        if dice.random() < 0.75:
            await self._insert(insert)
        else:
            await self._insert(insert, self._new(insert.event, due_us=until_us))

    async def _change(self) -> None:
        """Reads, modifies and inserts one of the shared events, under the condition that nobody else has changed it."""
        dice, event = self._dice, f"shared/{self._dice.randrange(SHARED)}"
        for _ in range(ATTEMPTS):
            latest = self._latest.get(event)
            insert = self._new(event, removal=dice.random() < 0.15)
            if not insert.removal and dice.random() < 0.3:
                insert.until_us = _now_us() + dice.randrange(100_000, 1_500_000)
            condition = "none"
            if latest is not None and (latest["data"] is not None or dice.random() < 0.5):
                condition = latest[dice.choice(["id", "uuid"])]
            insert.if_latest = condition if condition in ("none", (latest or {}).get("uuid")) else _position(condition)
            if dice.random() < 0.8:
                stored = await self._insert(insert, conditions=[condition])
            else:  # one more, which builds on the first one before its id is known
                second = self._new(event, if_latest=insert.uuid)
                stored = await self._insert(insert, second, conditions=[condition, insert.uuid])
            if stored:
                self._latest[event] = stored[-1]
                return

    async def _move(self) -> None:
        """Schedules a record, and moves it to another time: one batch cancels it and schedules another one."""
        begin_us, dice = _now_us(), self._dice
        first = self._new(due_us=begin_us + dice.randrange(100_000, AHEAD_US // 2))
        if await self._insert(first):
            assert first.due_us is not None
            await asyncio.sleep(max(0.0, (first.due_us - _now_us()) / 1e6) * dice.choice([0, 0.5, 1]))
            second = self._new(first.event, due_us=begin_us + AHEAD_US, replaces=first.uuid)
            if await self._insert(second, cancel=first):
                self._counts["batches acknowledged that cancel a record and schedule another one"] += 1

    def _cancelled(self, insert: Insert, done: bool) -> None:
        insert.cancel = "cancelled" if done else "too late"
        self._counts["cancelled" if done else "too late to cancel"] += 1

    async def _insert(
        self, *inserts: Insert, cancel: Insert | None = None, conditions: list[str] | None = None
    ) -> list[Any]:
        """Inserts them in one request, which also cancels ``cancel``. ``conditions`` has the text of ``if_latest`` for
        each of them. Returns the inserted records; none if the request was refused."""
        items: list[dict[str, Any]] = [] if cancel is None else [{"cancel": cancel.uuid}]
        for index, insert in enumerate(inserts):
            self._history.inserts[insert.uuid] = insert
            insert.beside = inserts[index - 1].uuid if len(inserts) > 1 else ""
            item: dict[str, Any] = {
                "event": insert.event,
                "uuid": insert.uuid,
                "data": {"uuid": insert.uuid, "text": TEXT},
            }
            if insert.removal:
                item["data"] = None
            if insert.due_us is not None:
                item["timestamp"] = insert.due_us
            if insert.until_us is not None:
                item["until"] = insert.until_us
                item["late"] = self._dice.choice(["publish", "refuse"])
            if conditions:
                item["if_latest"] = conditions[index]
            items.append(item)
        response = await self._insist("/insert", _body(items))
        for insert in inserts:
            insert.sent = response.sent
        if response.status not in (200, 201):
            self._refused(response, inserts, cancel)
            return []
        records = json.loads(response.body)
        if len(items) == 1:
            records = [records]
        if cancel is not None:
            self._cancelled(cancel, records.pop(0)["cancelled"])
        for insert, record in zip(inserts, records, strict=True):
            insert.acknowledged = True
            insert.position = _position(record["id"]) if record["id"] else None
            self._count(insert, "acknowledged")
            # Such an insert is answered with 200; an insert that is stored now is answered with 201.
            only_again = (
                "inserts acknowledged only when they were sent again, although an earlier request had stored them"
            )
            self._counts[only_again] += response.status == 200
        return list(records)

    def _refused(self, response: Response, inserts: tuple[Insert, ...], cancel: Insert | None) -> None:
        """Remembers why the request was refused, if there was a reason."""
        problem = json.loads(response.body)
        code = problem["type"].rpartition(":")[2]
        over = any(insert.until_us is not None and insert.until_us <= _now_us() for insert in inserts)
        if code == "not-latest" and inserts[0].if_latest is not None:
            latest = self._latest[inserts[0].event] = problem["latest"]
            refused = inserts[problem.get("index", 0)]
            refused.refused, refused.told = code, None if latest is None else latest["uuid"]
            why = "the condition did not hold (if_latest)"
        elif (code == "late" or (code == "bad-request" and "until: " in problem["detail"])) and over:
            why = "the end of the version had passed (until)"
        elif code == "conflict" and cancel is not None:
            self._cancelled(cancel, False)
            why = "the same batch was to cancel what was published already"
        else:
            self._faults.append(f"an insert was answered {response.status}: {response.body!r}")
            return
        for insert in inserts:
            insert.refused = insert.refused or f"{code}, as was its batch"
            self._counts[f"inserts refused, because {why}"] += 1

    def _count(self, insert: Insert, what: str) -> None:
        self._counts[f"inserts {what}"] += 1
        self._counts[f"inserts {what}, of scheduled records"] += insert.due_us is not None
        self._counts[f"inserts {what}, of removals"] += insert.removal
        self._counts[f"inserts {what}, of versions that end (until)"] += insert.until_us is not None
        self._counts[f"inserts {what}, under a condition (if_latest)"] += insert.if_latest is not None

    async def _insist(self, path: str, body: bytes) -> Response:
        cut_s = self._dice.choice(CUT_S) if self._dice.random() < 0.03 else None
        self._counts["requests whose connection the client cut"] += cut_s is not None
        response = await self._connection.insist(path, body, cut_s=cut_s)
        self._counts["requests sent again"] += response.sent - 1
        return response


def _body(items: list[dict[str, Any]]) -> bytes:
    """Times are sent in microseconds, and JSON's own numbers of seconds would be rounded."""
    texts = []
    for item in items:
        fields = []
        for name, value in item.items():
            if name in ("timestamp", "until"):
                fields.append(f'"{name}":{value // 10**6}.{value % 10**6:06d}')
            else:
                fields.append(f'"{name}":{json.dumps(value)}')
        texts.append("{" + ",".join(fields) + "}")
    return (texts[0] if len(texts) == 1 else f"[{','.join(texts)}]").encode()


def _position(event_id: str) -> int:
    return int(event_id.rpartition("-")[2])


def _now_us() -> int:
    return time.time_ns() // 1_000
