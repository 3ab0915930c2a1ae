"""Subscribers in a process of their own, so that it can be stopped:
``python -m tests.faults.stalled PORT COUNT RECEIVE_BUFFER CERTIFICATE``, the last two of them ``-`` for none.

Prints what every stream got, as JSON, for each line that it reads: ``report``, or ``look``, which leaves lateness as it
is. 500 streams get 400 MB a second between them, so this has a plain loop of its own."""

from __future__ import annotations

import contextlib
import json
import re
import selectors
import socket
import ssl
import sys
import time
from collections import Counter
from typing import Any

FRAME = re.compile(rb'(?m)^(?:id: ([^\n]*-(\d+))\n)?event: ([^\n]+)\ndata: (?:\{"n":(\d+),"us":(\d+))?')
AGAIN_S = 0.5


class Reader:
    """One stream that resumes by itself, and checks that it misses nothing but what it was told it skips."""

    def __init__(self) -> None:
        self.sock: socket.socket | None = None
        self.position = 0
        self.ready = 0
        self.records = 0
        self.skips = 0
        self.faults: list[str] = []
        self.late: Counter[int] = Counter()  # in tenths of a millisecond
        self.latest: dict[str, int] = {}
        self._last_id = b""
        self._skipped = False
        self._rest = b""

    def connect(self, port: int, receive_buffer: int, tls: ssl.SSLContext | None) -> socket.socket:
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(("127.0.0.1", port))
        if tls is not None:
            sock = tls.wrap_socket(sock, server_hostname="localhost")
        resume = b"Last-Event-ID: %b\r\n" % self._last_id if self._last_id else b""
        sock.sendall(b"GET /events HTTP/1.0\r\nHost: localhost\r\n%b\r\n" % resume)
        sock.setblocking(False)
        self.sock, self._rest = sock, b""
        return sock

    def read(self) -> bool:
        """False once the connection has ended."""
        assert self.sock is not None
        try:
            while part := self.sock.recv(1 << 18):
                part = self._rest + part
                end = part.rfind(b"\n\n") + 2
                self._rest = part[end:] if end > 1 else part
                if end > 1:
                    self._take(part[:end])
                if not isinstance(self.sock, ssl.SSLSocket):
                    return True  # the others' turn
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            pass
        self.sock.close()
        self.sock = None
        return False

    def _take(self, frames: bytes) -> None:
        now_us = time.time_ns() // 1_000
        for match in map(FRAME.search, frames.split(b"\n\n")):
            if match is None:
                continue  # an id alone
            last_id, position, event, n, us = match.groups()
            self._last_id = last_id or self._last_id
            if n:
                self._take_record(int(position), event.decode(), int(n), now_us - int(us))
            elif event == b"$ready":
                self.ready += 1
                self._skipped = False
            elif event == b"$skipped":
                self.skips += 1
                self._skipped = True
            else:
                self.faults.append(f"a {event!r}")

    def _take_record(self, position: int, event: str, n: int, late_us: int) -> None:
        if position != self.position + 1 and self.position and not (self._skipped and position > self.position):
            self.faults.append(f"{position} after {self.position}")
        self.position = position
        self.latest[event] = n
        self.records += 1
        self.late[late_us // 100] += 1


def report(readers: list[Reader], anew: bool) -> dict[str, Any]:
    """``anew``: lateness is counted from here on."""
    late: Counter[int] = Counter()
    for reader in readers:
        late.update(reader.late)
        if anew:
            reader.late.clear()
    return {
        "ready": sum(reader.ready > 0 for reader in readers),
        "positions": [reader.position for reader in readers],
        "records": [reader.records for reader in readers],
        "skips": sum(reader.skips for reader in readers),
        "faults": [fault for reader in readers for fault in reader.faults][:5],
        "latest": [reader.latest for reader in readers],
        "p99_ms": percentile(late, 0.99) / 10,
    }


def percentile(counts: Counter[int], share: float) -> int:
    left = sum(counts.values()) * share
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return value
    return 0


def main(port: int, count: int, receive_buffer: int, tls: ssl.SSLContext | None) -> None:
    readers = [Reader() for _ in range(count)]
    away = [(0.0, reader) for reader in readers]  # from when on each may connect again
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            while away and away[0][0] <= time.monotonic():
                reader = away.pop(0)[1]
                try:
                    selector.register(reader.connect(port, receive_buffer, tls), selectors.EVENT_READ, reader)
                except OSError:
                    away.append((time.monotonic() + AGAIN_S, reader))
            for key, _ in selector.select(0.05):
                if key.data is None:
                    command = sys.stdin.readline()
                    if not command:
                        return
                    print(json.dumps(report(readers, anew=command == "report\n")), flush=True)
                elif not key.data.read():
                    with contextlib.suppress(KeyError):
                        selector.unregister(key.fileobj)
                    away.append((time.monotonic() + AGAIN_S, key.data))


if __name__ == "__main__":
    _, _port, _count, _buffer, _certificate = sys.argv
    context = None if _certificate == "-" else ssl.create_default_context(cafile=_certificate)
    main(int(_port), int(_count), 0 if _buffer == "-" else int(_buffer), context)
