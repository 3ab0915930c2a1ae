"""Thousands of connections that send a byte a second, or nothing: others are served, and they are gone in time.

500 of each here; ``BROKER_BIG=1`` has the 5,000 that docs/reliability.md tells of."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from tests.support.servers import ServerProcess, streaming, wait_for

COUNT = 5_000 if os.environ.get("BROKER_BIG") else 500
TIMEOUT_S = 10.0 if os.environ.get("BROKER_BIG") else 3.0


def sockets_of(server: ServerProcess) -> int:
    sockets = 0
    for each in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed just now
            sockets += os.readlink(each).startswith("socket:")
    return sockets


@pytest.mark.parametrize("talks", [True, False], ids=["a byte a second", "nothing"])
def test_slow_connections_do_not_keep_others_out_and_are_gone_after_the_timeout(tmp_path: Path, talks: bool) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with (
        ServerProcess(tmp_path, head_timeout_s=TIMEOUT_S) as server,
        server.client("ada") as client,
        streaming(server) as reader,
        ExitStack() as stack,
    ):
        reader.wait("$ready")
        before = sockets_of(server)
        slow = [
            stack.enter_context(closing(socket.create_connection(("127.0.0.1", server.port)))) for _ in range(COUNT)
        ]
        stop = threading.Event()

        def talk() -> None:
            for byte in b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 100:
                for sock in slow:
                    try:
                        sock.send(bytes([byte]))
                    except OSError:
                        continue
                if stop.wait(1):
                    return

        thread = threading.Thread(target=talk)
        if talks:
            thread.start()
        wait_for(lambda: sockets_of(server) >= before + COUNT)
        slowest = 0.0
        for n in range(20):
            begun = time.monotonic()
            assert client.post("/insert", json={"event": "e", "data": n}).status_code == 201
            slowest = max(slowest, time.monotonic() - begun)
        reader.wait("e", 20)
        wait_for(lambda: sockets_of(server) <= before + 1, TIMEOUT_S + 15, "the slow ones are gone")
        stop.set()
        if talks:
            thread.join()
        print(f"\n{COUNT} connections; the slowest of 20 inserts meanwhile: {slowest * 1e3:.0f} ms")
        assert not reader.ended
