"""A stop by signal: everything acknowledged is kept, every stream ends so that it is opened again, and it is quick."""

from __future__ import annotations

import resource
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from broker.records import make_uuid
from tests.support.servers import ServerProcess, StreamReader, open_stream, streaming, wait_for

STREAMS = 500
PUBLISHERS = 8
EXIT_S = 3.0  # shutdown_grace_s is 2 s


@pytest.fixture(scope="module", autouse=True)
def _files() -> None:
    """This process needs an open file for each stream."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * STREAMS)), hard))


@dataclass
class Publishers:
    """Insert in the background until the server is gone."""

    acknowledged: dict[str, int] = field(default_factory=dict)  # uuid: position
    other: Counter[str] = field(default_factory=Counter)  # answers and errors
    threads: list[threading.Thread] = field(default_factory=list)

    def run(self, client: httpx.Client, number: int) -> None:
        refused = 0
        while refused < 3:
            uuid = str(make_uuid(time.time_ns() // 1_000_000))
            try:
                answer = client.post("/insert", json={"event": f"tick/{number}", "data": uuid, "uuid": uuid})
            except httpx.ConnectError as error:
                self.other[type(error).__name__] += 1
                refused += 1
            except httpx.TransportError as error:
                self.other[type(error).__name__] += 1
            else:
                if answer.status_code == 201:
                    self.acknowledged[uuid] = int(answer.json()["id"].rpartition("-")[2])
                else:
                    self.other[str(answer.status_code)] += 1


@contextmanager
def publishing(server: ServerProcess) -> Iterator[Publishers]:
    publishers = Publishers()
    with ExitStack() as clients:
        for number in range(PUBLISHERS):
            client = clients.enter_context(server.client("ada"))
            publishers.threads.append(threading.Thread(target=publishers.run, args=(client, number)))
        for thread in publishers.threads:
            thread.start()
        try:
            yield publishers
        finally:
            server.stop(signal.SIGKILL)  # if it is not gone yet: they end when it is
            for thread in publishers.threads:
                thread.join()


@contextmanager
def many_streams(server: ServerProcess) -> Iterator[list[StreamReader]]:
    readers = [open_stream(server) for _ in range(STREAMS)]
    try:
        for reader in readers:
            reader.wait("$ready")
        yield readers
    finally:
        for reader in readers:
            reader.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_keeps_every_acknowledged_insert_and_ends_every_stream_without_its_last_chunk(
    tmp_path: Path, number: signal.Signals
) -> None:
    with ServerProcess(tmp_path) as server:
        with many_streams(server) as readers:
            with publishing(server) as publishers:
                wait_for(lambda: len(publishers.acknowledged) >= 50, what="inserts in flight")
                begun = time.monotonic()
                status = server.stop(number)
                took_s = time.monotonic() - begun
            wait_for(lambda: all(reader.ended for reader in readers), what="the end of all streams")
            endings = Counter(reader.ended for reader in readers)
            streamed = [[frame.position for frame in reader.records()] for reader in readers]
        log = "\n".join(server.log)
        assert status == 0, log
        assert took_s < EXIT_S
        assert endings == {"between chunks": STREAMS}
        assert "Traceback" not in log
        server.start()
        with server.client("ada") as ada:
            stored = {
                entry["uuid"]: int(entry["id"].rpartition("-")[2])
                for publisher in range(PUBLISHERS)
                for entry in ada.get(f"/collections/tick/{publisher}").json()
            }
        missing = publishers.acknowledged.items() - stored.items()
        assert not missing, f"acknowledged and lost, or at another position: {missing}"
        assert sorted(stored.values()) == list(range(1, len(stored) + 1))
        for positions in streamed:
            # All of it is durable: nobody was told of a record that is not in the log.
            assert positions == list(range(positions[0], positions[-1] + 1))
            assert positions[-1] <= len(stored)
    print(
        f"\n{number.name}: exit after {took_s:.2f} s with {STREAMS} streams and {PUBLISHERS} publishers; "
        f"{len(publishers.acknowledged)} inserts acknowledged, {len(stored)} in the log; else {dict(publishers.other)}"
    )


def test_a_stream_that_a_stop_ended_resumes_where_it_was(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        with streaming(server) as stream:
            with publishing(server) as publishers:
                stream.wait("tick/0", 20)
                server.stop()
            wait_for(lambda: stream.ended, what="the end of the stream")
        server.start()
        with streaming(server, last_id=stream.last_id) as back:
            back.wait("$ready")
            got = {frame.json(): frame.position for frame in stream.records() + back.records()}
            assert len(got) == len(stream.records()) + len(back.records()), "nothing twice"
            assert sorted(got.values()) == list(range(1, len(got) + 1)), "nothing missing"
            assert publishers.acknowledged.items() <= got.items()


def test_a_reader_that_takes_nothing_does_not_delay_a_stop(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, server.client("ada") as ada, socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect(("127.0.0.1", server.port))
        stalled.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = b""
        while b"$ready" not in head:
            head += stalled.recv(4096)
        for _ in range(20):
            ada.post("/insert", json={"event": "big", "data": "x" * 500_000})
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < EXIT_S


def test_requests_that_are_never_completed_do_not_delay_a_stop(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, shutdown_grace_s=1.0) as server, server.client("ada") as ada, ExitStack() as sockets:
        head = f"POST /insert HTTP/1.1\r\nHost: localhost\r\nAuthorization: {ada.headers['Authorization']}\r\n"
        for request in (
            "",
            "POST /ins",
            head,
            head + "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
        ):
            sock = sockets.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            sock.sendall(request.encode())
        # The server has read those before it answers this.
        assert ada.get("/healthz").status_code == 200
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < EXIT_S
        answer = sock.recv(65536)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"application/problem+json" in answer
        assert not any("Traceback" in line for line in server.log)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGHUP], ids=["a second stop", "a closed terminal"])
def test_a_second_signal_while_stopping_is_a_stop_all_the_same(tmp_path: Path, second: signal.Signals) -> None:
    with ServerProcess(tmp_path) as server, streaming(server) as stream:
        stream.wait("$ready")
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(second)
        assert server.stop() == 0
        assert "Traceback" not in "\n".join(server.log)
