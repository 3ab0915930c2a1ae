"""The traps of handing a stream's connection over, each by name, on both event loops."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from broker.live.subscriber import Subscriber
from broker.records import NewRecord, make_uuid
from broker.users import OPERATOR
from tests.support.servers import ServerProcess, StreamReader, open_stream, wait_for
from tests.support.threads import LOOPS, ThreadServer, serving


@pytest.fixture(params=list(LOOPS))
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ThreadServer]:
    with serving(tmp_path, request.param, subscriber_stall_s=1.5) as server:
        yield server


@contextmanager
def stream_of(server: ServerProcess, *args: Any, **options: Any) -> Iterator[StreamReader]:
    reader = open_stream(server, *args, **options)
    try:
        yield reader
    finally:
        reader.close()


def gone(server: ThreadServer) -> bool:
    return not server.broker.hub.subscribers


def contiguous(reader: StreamReader) -> bool:
    positions = [frame.position for frame in reader.records()]
    return positions == list(range(positions[0], positions[0] + len(positions)))


def test_the_connection_belongs_to_the_subscriber_and_uvicorn_forgets_it(here: ThreadServer) -> None:
    with stream_of(here) as reader:
        reader.wait("$ready")
        assert len(here.broker.hub.subscribers) == 1
        wait_for(lambda: not here.server.server_state.connections and not here.server.server_state.tasks)
        here.publish("1", "2", "3")
        reader.wait("e", 3)
        assert [frame.data for frame in reader.records()] == ["1", "2", "3"]
    wait_for(lambda: gone(here))


def test_a_subscribers_socket_never_blocks_whatever_the_programs_default_is(
    here: ThreadServer,
) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(4)
    try:
        with stream_of(here) as reader:
            reader.wait("$ready")
            timeouts = {each._direct.gettimeout() for each in here.broker.hub.subscribers if each._direct}
    finally:
        socket.setdefaulttimeout(before)
    assert timeouts == {0.0}


def test_a_request_pipelined_behind_the_stream_is_dropped_and_the_stream_lives(here: ThreadServer) -> None:
    behind = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 3
    with stream_of(here, extra=behind) as reader:
        reader.wait("$ready")
        here.publish("1")
        reader.wait("e")
        assert not reader.ended
        assert "healthz" not in reader.head
        reader.sock.sendall(behind)
        here.publish("2")
        reader.wait("e", 2)
    wait_for(lambda: gone(here))  # reading went on, or the end would not be noticed


@pytest.mark.parametrize(
    "behind", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["", "and another behind it"]
)
def test_a_stream_pipelined_behind_another_request_starts_after_its_answer(here: ThreadServer, behind: bytes) -> None:
    with socket.create_connection(("127.0.0.1", here.port)) as sock:
        sock.settimeout(20)
        before, stream = (
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n",
        )
        sock.sendall(before + stream + behind)
        got = b""
        while b"$ready" not in got:
            got += sock.recv(65536)
        assert got.count(b"HTTP/1.1 200 OK") == 2
        assert got.index(b'{"status":"ok"}') < got.index(b"text/event-stream")


def test_http_1_0_gets_no_chunks_and_ends_with_the_connection(here: ThreadServer) -> None:
    with stream_of(here, version="1.0") as reader:
        reader.wait("$ready")
        here.publish('{"n":1}')
        assert reader.wait("e")[-1].data == '{"n":1}'
        assert "chunked" not in reader.head
        assert "connection: close" in reader.head
        here.call(here.broker.close_streams())
        wait_for(lambda: reader.ended == "cleanly")


def test_head_gets_the_headers_and_never_joins(here: ThreadServer) -> None:
    answer = httpx.head(f"{here.url}/events")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store, no-transform", "no")
    assert gone(here)


def test_a_transport_that_closes_during_fan_out_does_not_cut_the_others_short(here: ThreadServer) -> None:
    readers = [open_stream(here) for _ in range(30)]
    for reader in readers:
        reader.wait("$ready")

    async def close_some_and_publish() -> None:
        subscribers = list(here.broker.hub.subscribers)
        for subscriber in subscribers[::3]:
            subscriber.transport.abort()  # still a member: connection_lost comes later
        await here.broker.insert([NewRecord(make_uuid(1), "e", b"1", "ada")], OPERATOR)

    here.call(close_some_and_publish())
    here.publish("2")
    wait_for(lambda: all(reader.ended or len(reader.records()) == 2 for reader in readers))
    assert sum(not reader.ended for reader in readers) == 20
    wait_for(lambda: len(here.broker.hub.subscribers) == 20)
    for reader in readers:
        reader.close()
    wait_for(lambda: gone(here))


def test_handed_over_while_the_socket_is_full_it_is_behind_and_then_exact(here: ThreadServer) -> None:
    big = json.dumps("x" * 900_000)
    here.publish(*[big] * 8, event="old")
    # Many answers fill the socket before the stream's turn comes: the client does not read yet.
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", here.port))
    sock.settimeout(20)
    sock.sendall(
        b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 31
        + b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    wait_for(lambda: any(each.paused for each in here.broker.hub.subscribers))
    here.publish("1", "2")
    got = bytearray()
    while b"event: $ready" not in got[-200:]:
        got += sock.recv(1 << 20)
    here.publish("3")
    while b"data: 3" not in got[-200:]:
        got += sock.recv(1 << 20)
    assert got.count(b"HTTP/1.1 200 OK") == 32
    stream = got[got.index(b"text/event-stream") :]
    assert stream.count(b"event: old") == 1
    assert stream.index(b"data: 2") < stream.index(b"event: $ready") < stream.index(b"data: 3")
    sock.close()
    wait_for(lambda: gone(here))


@pytest.mark.parametrize("behind", ["replayed", "skipped"])
def test_a_slow_subscriber_gets_every_record_or_is_told_what_it_skipped(tmp_path: Path, behind: str) -> None:
    with serving(tmp_path, "uvloop", replay_max=1000 if behind == "replayed" else 20) as server:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_for(lambda: server.broker.statistics().live == 1)  # live
        for n in range(100):
            server.publish(json.dumps([n, "x" * 50_000]), event=f"e{n % 7}")
        wait_for(lambda: not server.broker.statistics().live)  # behind: nothing more is written to it
        assert sum(each.transport.get_write_buffer_size() for each in server.broker.hub.subscribers) < 400_000
        reader = StreamReader(sock)
        reader.start()
        reader.wait("$ready", 2)
        server.publish('"live"')
        wait_for(lambda: reader.records() and reader.records()[-1].data == '"live"')
        latest = {frame.event: frame.json()[0] for frame in reader.records()[:-1]}
        assert latest == {f"e{n % 7}": n for n in range(93, 100)}
        skipped = [frame for frame in reader.frames if frame.event == "$skipped"]
        if behind == "replayed":
            assert not skipped
            assert contiguous(reader)
        else:
            assert len(skipped) == 1
            assert skipped[0].json()["positions"] > 20
        reader.close()


def test_a_reader_that_takes_nothing_is_cut_off(here: ThreadServer) -> None:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", here.port))
    sock.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wait_for(lambda: len(here.broker.hub.subscribers) == 1)
    here.publish(*[json.dumps("x" * 900_000)] * 3)
    wait_for(lambda: gone(here))
    wait_for(lambda: not here.broker.catchup._tasks)
    sock.close()


Wrap = Callable[[socket.socket], socket.socket]


def tls_pair() -> tuple[ssl.SSLContext, Wrap]:
    """The server's context, and what a client does with its socket."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return context, lambda sock: client.wrap_socket(sock, server_hostname="127.0.0.1")


@contextmanager
def slow_stream(server: ThreadServer, wrap: Wrap) -> Iterator[StreamReader]:
    """A live one that reads nothing until it is told to. The others must be live already."""
    live = server.broker.statistics().live
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", server.port))
    sock = wrap(sock)
    sock.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wait_for(lambda: server.broker.statistics().live == live + 1)
    reader = StreamReader(sock)
    try:
        yield reader
    finally:
        reader.close()


@pytest.mark.parametrize("loop", list(LOOPS))
def test_over_tls_a_stream_is_exact_slow_or_not(tmp_path: Path, loop: str) -> None:
    context, wrap = tls_pair()
    with serving(tmp_path, loop, context) as server, stream_of(server, wrap=wrap) as quick:
        quick.wait("$ready")
        with slow_stream(server, wrap) as slow:
            for n in range(60):
                server.publish(json.dumps([n, "x" * 50_000]))
            quick.wait("e", 60)
            assert contiguous(quick)
            wait_for(lambda: server.broker.statistics().live == 1)
            slow.start()
            slow.wait("e", 60)
            assert contiguous(slow)


@pytest.mark.parametrize("loop", list(LOOPS))
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_of_a_large_turn_a_slow_reader_is_kept_a_part_and_gets_the_rest_before_the_end(
    tmp_path: Path, loop: str, tls: bool
) -> None:
    context, wrap = tls_pair() if tls else (None, lambda sock: sock)
    with serving(tmp_path, loop, context, shutdown_grace_s=20.0) as server, slow_stream(server, wrap) as slow:
        server.publish(*[json.dumps([n, "x" * 50_000]) for n in range(20)])  # joined: 1 MB
        (subscriber,) = server.broker.hub.subscribers
        wait_for(lambda: subscriber.paused)
        assert subscriber.transport.get_write_buffer_size() < 200_000
        assert len(subscriber._unwritten) > 300_000
        closing = asyncio.run_coroutine_threadsafe(server.broker.close_streams(), server.loop)
        slow.start()
        closing.result(20)
        wait_for(lambda: slow.ended)
        assert contiguous(slow)
        assert (len(slow.records()), slow.ended) == (20, "between chunks")


def test_heartbeats_come_on_idle_streams_and_move_a_quiet_filters_id(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "uvloop", heartbeat_s=0.2) as server,
        stream_of(server) as everything,
        stream_of(server, "/events?event=quiet") as quiet,
    ):
        quiet.wait("$ready")
        server.publish("1", "2")
        wait_for(lambda: everything.comments >= 3 and quiet.comments >= 3)
        assert quiet.last_id.endswith("-2")
        assert not quiet.records()


def test_an_empty_line_stands_behind_an_event_and_where_a_filtered_streams_position_has_moved(tmp_path: Path) -> None:
    """Several libraries deliver an event at each one, an empty one if there was no data."""
    with serving(tmp_path, "uvloop", heartbeat_s=0.1) as server:
        server.publish("1")
        with (
            stream_of(server) as everything,
            stream_of(server, "/events?event=quiet") as quiet,
            stream_of(server, "/events?event=e") as busy,
            stream_of(server, last_id="00000000-1") as unknown,
        ):
            for reader in (everything, quiet, busy, unknown):
                reader.wait("$ready")
            server.publish("2")
            wait_for(lambda: quiet.empty)
            wait_for(lambda: min(everything.comments, quiet.comments, busy.comments, unknown.comments) >= 3)
            with stream_of(server, "/events?event=quiet") as late:  # in the same group; its position has not moved
                wait_for(lambda: late.comments >= 2 and quiet.comments >= 5)
                assert late.empty == []
            assert quiet.empty == [f"id: {everything.last_id}"]
            assert (everything.empty, busy.empty, unknown.empty) == ([], [], [])
            assert all(reader.retry for reader in (everything, quiet, busy, unknown, late))


def test_a_page_can_ask_for_heartbeats_that_it_receives(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "uvloop", heartbeat_s=0.1) as server,
        stream_of(server, "/events?heartbeat=event") as everything,
        stream_of(server, "/events?heartbeat=event&event=quiet") as quiet,
    ):
        for reader in (everything, quiet):
            ready = reader.wait("$ready")[-1]
            assert (ready.json()["id"], ready.json()["heartbeat"]) == (ready.id, 0.1)
        server.publish("1")

        def beats_while_others_come() -> bool:  # the page may listen to none of the other events
            server.publish("1")
            return sum(frame.event == "$heartbeat" for frame in everything.frames) >= 3

        wait_for(beats_while_others_come)
        beat = next(frame for frame in reversed(everything.frames) if frame.event == "$heartbeat")
        assert (beat.id, list(beat.json())) == ("", ["time"])
        assert abs(beat.json()["time"] - time.time()) < 5
        wait_for(lambda: quiet.frames[-1].event == "$heartbeat" and quiet.last_id == everything.last_id)
        assert (everything.empty, quiet.empty, everything.comments, quiet.comments) == ([], [], 0, 0)


def test_a_stream_that_is_to_be_closed_by_its_request_ends_with_its_last_chunk(here: ThreadServer) -> None:
    """Node's http-proxy, of which the development proxies of Vite and webpack are made, asks for that; and of a stream
    that ends without its last chunk it never tells the page."""
    with stream_of(here) as plain, stream_of(here, headers="Connection: close\r\n") as proxied:
        for reader in (plain, proxied):
            reader.wait("$ready")
        here.publish("1")
        for reader in (plain, proxied):
            reader.wait("e")
        here.call(here.broker.close_streams())
        wait_for(lambda: plain.ended and proxied.ended)
        assert (plain.ended, proxied.ended) == ("between chunks", "cleanly")


def test_a_full_server_answers_a_stream_that_ends(tmp_path: Path) -> None:
    """It says when to reconnect, which is ``retry_ms`` and at random up to half of it more or less."""
    with serving(tmp_path, "uvloop", subscribers_max=1) as server, stream_of(server) as first:
        first.wait("$ready")
        with stream_of(server) as second:
            wait_for(lambda: second.ended)
            assert second.head.startswith("HTTP/1.1 200 OK\r\n")
            assert (second.ended, second.empty) == ("between chunks", [])
        with stream_of(server, headers="Connection: close\r\n") as proxied:
            wait_for(lambda: proxied.ended)
            assert proxied.ended == "cleanly"
        with stream_of(server, version="1.0") as third:
            wait_for(lambda: third.ended)
            assert third.ended == "cleanly"
        assert all(1000 <= int(each.retry) <= 3000 for each in (second, proxied, third))


def test_a_resume_of_recent_records_needs_no_store(tmp_path: Path) -> None:
    with serving(tmp_path, "uvloop") as server:
        server.publish("1", "2", "3")
        rename(server, "publications", "hidden")
        with stream_of(server, last_id=f"{server.broker.relay.epoch}-1") as reader:
            reader.wait("$ready")
            assert [frame.data for frame in reader.records()] == ["2", "3"]
        rename(server, "hidden", "publications")


def test_while_the_store_is_away_a_stream_opens_and_waits(tmp_path: Path) -> None:
    """Nothing but 200, 400, 401 and 403, ever; the catch-up goes on when the store is back."""
    # So few bytes are kept in memory that a resume needs the store.
    with serving(tmp_path, "uvloop", heartbeat_s=0.1, replay_bytes_max=10) as server:
        server.publish("1", "2", "3")
        rename(server, "publications", "hidden")
        with stream_of(server, last_id=f"{server.broker.relay.epoch}-1") as reader:
            wait_for(lambda: reader.comments >= 3)
            assert not reader.frames
            rename(server, "hidden", "publications")
            reader.wait("$ready")
            assert [frame.data for frame in reader.records()] == ["2", "3"]


def rename(server: ThreadServer, table: str, other: str) -> None:
    database = sqlite3.connect(server.data / "broker.db", isolation_level=None)
    database.execute(f"ALTER TABLE {table} RENAME TO {other}")
    database.close()


@pytest.mark.parametrize("end", ["the client closes", "the client resets", "abort", "close", "written to when dead"])
@pytest.mark.parametrize("loop", list(LOOPS))
def test_the_descriptor_is_open_until_its_subscriber_has_let_go_of_it(tmp_path: Path, loop: str, end: str) -> None:
    """A subscriber sends on the transport's descriptor: one that is closed too early may be another connection's."""
    let_go: list[bool] = []

    class Watched(Subscriber):
        __slots__ = ()

        def connection_lost(self, exc: Exception | None) -> None:
            sock = self.transport.get_extra_info("socket")
            os.fstat(sock.fileno())  # raises if it is closed
            super().connection_lost(exc)
            let_go.append(self._direct is None)

    with serving(tmp_path, loop) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("broker.broker.Subscriber", Watched)
        reader = open_stream(server)
        reader.wait("$ready")
        (subscriber,) = server.broker.hub.subscribers
        assert subscriber._direct is not None
        if end in ("the client resets", "written to when dead"):
            reader.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if end == "written to when dead":
            server.publish(*[json.dumps("x" * 100_000)] * 30)  # more than the sockets hold, while it does not read
        if end in ("abort", "close"):
            server.loop.call_soon_threadsafe(subscriber.abort if end == "abort" else subscriber.end)
        reader.close()
        wait_for(lambda: let_go == [True])
        server.publish("1")


def test_head_and_body_of_an_answer_come_in_one_piece(here: ThreadServer) -> None:
    with socket.create_connection(("127.0.0.1", here.port)) as sock:
        sock.settimeout(20)
        for request, end in ((b"GET /healthz", b"}\n"), (b"HEAD /healthz", b"\r\n\r\n"), (b"GET /nothing", b"}\n")):
            for _ in range(30):  # in two pieces, some would come apart
                sock.sendall(request + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert sock.recv(65_536).endswith(end)


def test_what_is_no_http_gets_a_problem_and_the_end(here: ThreadServer) -> None:
    with socket.create_connection(("127.0.0.1", here.port)) as sock:
        sock.settimeout(20)
        sock.sendall(b"\x16\x03\x01 this is TLS\r\n\r\n")
        got = b""
        while part := sock.recv(65536):
            got += part
        assert got.startswith(b"HTTP/1.1 400 ")
        assert b"application/problem+json" in got


def test_a_client_that_is_gone_at_the_hand_over_leaves_no_trace(
    here: ThreadServer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(200):
        sock = socket.create_connection(("127.0.0.1", here.port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sock.close()
    assert httpx.get(f"{here.url}/healthz").status_code == 200
    wait_for(lambda: gone(here) and not here.server.server_state.connections)
    assert "ASGI callable" not in caplog.text


def test_a_long_content_type_is_answered_at_once(here: ThreadServer) -> None:
    kind = b'application/json; x="' + b";" * 30_000
    with socket.create_connection(("127.0.0.1", here.port)) as sock:
        sock.settimeout(5)
        begun = time.process_time()
        sock.sendall(
            b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Type: %b\r\n\r\n{}" % kind
        )
        assert sock.recv(65536).startswith(b"HTTP/1.1 400 ")  # JSON it is, but not a login
        assert time.process_time() - begun < 1


def test_a_slow_reader_that_keeps_reading_is_not_cut_off(tmp_path: Path) -> None:
    """The kernel's buffer takes more only when a good part of it is free: what it has sent counts as progress, too."""
    with serving(tmp_path, "uvloop", subscriber_stall_s=0.4) as server:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        sock.settimeout(20)
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_for(lambda: server.broker.statistics().live)
        server.publish(*[json.dumps("x" * 900_000)] * 2)
        begun = time.monotonic()
        while time.monotonic() - begun < 4:  # ten times the stall, at some 40 KB a second
            assert sock.recv(4_000)
            time.sleep(0.1)
        assert len(server.broker.hub.subscribers) == 1
        sock.close()
        wait_for(lambda: gone(server))
