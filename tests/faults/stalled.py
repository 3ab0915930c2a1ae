"""Subscribers in a process of their own, so that it can be stopped: ``python -m tests.faults.stalled PORT COUNT TLS``.

Reads lines of commands: ``report`` prints what every stream got since the last report, as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import sys
import time
from typing import Any

RECEIVE_BUFFER = 16 * 1024


class Reader:
    """One stream that resumes by itself, and checks that it misses nothing but what it was told it skips."""

    def __init__(self) -> None:
        self.position = 0
        self.ready = 0
        self.records = 0
        self.skips = 0
        self.faults: list[str] = []
        self.late_us: list[int] = []
        self.latest: dict[str, int] = {}
        self._last_id = b""
        self._skipped = False

    async def listen(self, port: int, tls: ssl.SSLContext | None) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
                await self._connect(port, tls)
            await asyncio.sleep(0.5)

    async def _connect(self, port: int, tls: ssl.SSLContext | None) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(
            sock=sock, limit=1 << 17, ssl=tls, server_hostname="localhost" if tls else None
        )
        try:
            resume = b"Last-Event-ID: %b\r\n" % self._last_id if self._last_id else b""
            writer.write(b"GET /events HTTP/1.0\r\nHost: x\r\n%b\r\n" % resume)
            rest = b""
            while part := await reader.read(1 << 16):
                *frames, rest = (rest + part).split(b"\n\n")
                for frame in frames:
                    self._take(frame)
        finally:
            writer.transport.abort()

    def _take(self, frame: bytes) -> None:
        fields = dict(
            line.split(b": ", 1) for line in frame.splitlines() if b": " in line and not line.startswith(b":")
        )
        event = fields.get(b"event")
        if event == b"$ready":
            self.ready += 1
            self._skipped = False
        elif event == b"$skipped":
            self.skips += 1
            self._skipped = True
        elif event == b"$reset":
            self.faults.append("a $reset")
        elif event is not None:
            position = int(fields[b"id"].rpartition(b"-")[2])
            data = json.loads(fields[b"data"])
            if position != self.position + 1 and self.position and not (self._skipped and position > self.position):
                self.faults.append(f"{position} after {self.position}")
            self.position = position
            self.latest[event.decode()] = data["n"]
            self.records += 1
            self.late_us.append(time.time_ns() // 1_000 - data["us"])
        self._last_id = fields.get(b"id", self._last_id)


async def main(port: int, count: int, tls: ssl.SSLContext | None) -> None:
    readers = [Reader() for _ in range(count)]
    tasks = [asyncio.create_task(reader.listen(port, tls)) for reader in readers]
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while await commands.readline():
        late = sorted(us for reader in readers for us in reader.late_us)
        report: dict[str, Any] = {
            "ready": sum(reader.ready > 0 for reader in readers),
            "positions": [reader.position for reader in readers],
            "records": [reader.records for reader in readers],
            "skips": sum(reader.skips for reader in readers),
            "faults": [fault for reader in readers for fault in reader.faults][:5],
            "latest": [reader.latest for reader in readers],
            "p99_ms": late[len(late) * 99 // 100] / 1e3 if late else None,
        }
        for reader in readers:
            reader.late_us = []
        print(json.dumps(report), flush=True)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    context = None
    if sys.argv[3] != "-":
        context = ssl.create_default_context(cafile=sys.argv[3])
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), context))
