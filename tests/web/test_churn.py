"""Subscribers connect and leave at random while publishers insert: nobody misses a record, nobody gets one twice."""

from __future__ import annotations

import asyncio
import random
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.servers import ServerProcess

pytestmark = pytest.mark.anyio

SUBSCRIBERS = 200
SECONDS = 6.0
PUBLISHERS = 16

# Frames of records and Broker's own, as they stand in a stream (chunk sizes between them do not match).
FRAME = re.compile(rb"(?:id: ([0-9a-f]{8}-(\d+))\n)?event: (\S+)\ndata: .*\n\n")


@dataclass
class Tally:
    """What all subscribers saw, and what was wrong with it."""

    records: int = 0
    connects: int = 0
    resumes: int = 0
    skips: int = 0
    acknowledged: int = 0
    highest: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass
class Visitor:
    """One subscriber's memory: across connections it goes on where it was, or begins anew."""

    last_id: bytes = b""
    position: int | None = None
    may_skip: bool = False

    def take(self, match: re.Match[bytes], tally: Tally) -> None:
        event_id, position, event = match.groups()
        if event == b"$skipped":
            self.may_skip = True
            tally.skips += 1
        elif event == b"$reset":
            tally.faults.append("a $reset, though every id was good")
        elif event != b"$ready":
            at = int(position)
            if self.position is not None and at != self.position + 1 and not (self.may_skip and at > self.position):
                tally.faults.append(f"{at} after {self.position}")
            self.position, self.may_skip = at, False
            tally.records += 1
        elif int(position) != self.position and self.position is not None and not self.may_skip:
            tally.faults.append(f"$ready at {int(position)} after {self.position}")
        self.last_id = event_id or self.last_id


async def visit(port: int, visitor: Visitor, tally: Tally, until: float) -> None:
    """One connection, for a random while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    resume = b"Last-Event-ID: %b\r\n" % visitor.last_id if visitor.last_id else b""
    writer.write(b"GET /events HTTP/1.0\r\nHost: localhost\r\n%b\r\n" % resume)
    tally.connects += 1
    tally.resumes += bool(resume)
    rest = b""
    try:
        async with asyncio.timeout_at(until):
            while part := await reader.read(1 << 16):
                rest += part
                end = 0
                for match in FRAME.finditer(rest):
                    visitor.take(match, tally)
                    end = match.end()
                rest = rest[end:]
        tally.faults.append("the server ended a stream")
    except TimeoutError:
        writer.transport.abort()


async def come_and_go(port: int, tally: Tally, end: float, seed: int) -> None:
    loop, dice = asyncio.get_running_loop(), random.Random(seed)
    visitor = Visitor()
    while loop.time() < end:
        if dice.random() < 0.3:
            visitor = Visitor()
        await visit(port, visitor, tally, min(end, loop.time() + dice.uniform(0.01, 1.5)))
        await asyncio.sleep(dice.uniform(0, 0.2))


async def publish(port: int, token: str, tally: Tally, end: float, pause_s: float) -> None:
    """Inserts over one connection: as fast as it is answered, or every ``pause_s``."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"event":"e","data":{"text":"some forty characters of an ordinary event"}}'
    request = (
        b"POST /insert HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nPrefer: return=minimal\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b" % (token.encode(), len(body), body)
    )
    due = loop.time()
    while loop.time() < end:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        answer = await reader.readexactly(int(length[1]))
        if head.startswith(b"HTTP/1.1 201"):
            tally.acknowledged += 1
            tally.highest = max(tally.highest, int(answer.rpartition(b"-")[2].rstrip(b'"}\n')))
        due += pause_s
        await asyncio.sleep(max(0.0, due - loop.time()) if pause_s else 0)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("per_second", [500, None], ids=["at 500 inserts a second", "flat out"])
async def test_everyone_gets_contiguous_records(tmp_path: Path, per_second: int | None) -> None:
    """On a log of one event, so that a snapshot is one record, and all that follow are contiguous."""
    tally = Tally()
    begun = time.monotonic()
    with ServerProcess(tmp_path) as server:
        token = server.token("publisher")
        end = asyncio.get_running_loop().time() + SECONDS
        pause_s = PUBLISHERS / per_second if per_second else 0.0
        await asyncio.gather(
            *[publish(server.port, token, tally, end, pause_s) for _ in range(PUBLISHERS)],
            *[come_and_go(server.port, tally, end, seed) for seed in range(SUBSCRIBERS)],
        )
    print(
        f"\n{tally.connects} connects ({tally.resumes} resumes), {tally.acknowledged} inserts, {tally.records} records "
        f"received, {tally.skips} $skipped, in {time.monotonic() - begun:.1f} s"
    )
    assert tally.faults == []
    assert tally.connects > SUBSCRIBERS
    assert tally.records > SUBSCRIBERS
    assert tally.highest >= tally.acknowledged
    if per_second:
        assert tally.skips == 0
