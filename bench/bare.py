"""``.venv/bin/python -m bench.bare``: what the parts of an insert cost without a server around them, each in a loop.

Their sum is what an insert would cost if nothing had to be checked, counted or passed on. It is the floor of the
interpreter for Broker's inserts (docs/decisions/0014)."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from bench.bench import DATA
from bench.load import Publisher, compile_programs
from broker.broker import Broker
from broker.live.frames import make_frame
from broker.records import NewRecord, encode_record, make_uuid
from broker.settings import Settings
from broker.store.base import Commit
from broker.users import OPERATOR
from broker.web.insert import InsertBody

CLIENTS = 64
_BODY = f'{{"event":"bench","data":{DATA}}}'.encode()
_HEAD = b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


class _Echo(asyncio.Protocol):
    """Answers whatever arrives with the same response."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(_HEAD % 300 + b"x" * 300)


async def _input_and_output(programs: Path, seconds: float) -> float:
    """Microseconds of CPU time to receive a request, and to respond, with the same load as in ``make bench``."""
    server = await asyncio.get_running_loop().create_server(_Echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    def run() -> int:
        with Publisher(programs, port, path="/", body=_BODY.decode(), clients=CLIENTS) as publisher:
            return publisher.closed(seconds).ok

    before = time.process_time()
    done = await asyncio.to_thread(run)
    server.close()
    return (time.process_time() - before) / done * 1e6


def _new() -> NewRecord:
    body = msgspec.json.decode(_BODY, type=InsertBody)
    return NewRecord(make_uuid(1), body.event, bytes(body.data), "ada")


async def _transactions(folder: Path, commits: int) -> tuple[float, Callable[[], object]]:
    """Microseconds of CPU time of a record in transactions with one record of each client. Also returns a function that
    does what the event loop cannot leave out for a record: it reads the JSON, and makes a record, a response and a
    frame."""
    published: list[Commit] = []
    broker = Broker(Settings(data=folder))
    async with broker.lifespan():
        before = time.process_time()
        for _ in range(commits):
            await asyncio.gather(*[broker.store.append([_new()], OPERATOR) for _ in range(CLIENTS)])
        cpu_us = (time.process_time() - before) / (commits * CLIENTS) * 1e6
        _, records = await broker.store.read(0, CLIENTS, CLIENTS, 1 << 20)
        published.append(Commit(records, CLIENTS, None))
    (record, *_) = published[0].published

    def values() -> object:
        body = encode_record(record)
        return _new(), _HEAD % len(body) + body, make_frame(record, b"00000000-")

    return cpu_us, values


def main() -> None:
    seconds = 1.0 if "--quick" in sys.argv else 5.0
    with tempfile.TemporaryDirectory() as name:
        programs = compile_programs(Path(name) / "programs")
        rows = {"input and output, µs": uvloop.run(_input_and_output(programs, seconds))}
        cpu_us, values = uvloop.run(_transactions(Path(name), int(seconds * 50)))
        before = time.process_time()
        for _ in range(10_000):
            values()
        rows["JSON, records, response and frame, µs"] = (time.process_time() - before) / 10_000 * 1e6
        rows["the transaction, and a future for each record, µs"] = cpu_us
    for what, us in rows.items():
        print(f"{what:50} {us:6.1f}")
    print(f"{'together, µs':50} {sum(rows.values()):6.1f}")


if __name__ == "__main__":
    main()
