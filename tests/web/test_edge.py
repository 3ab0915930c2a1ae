"""What a connection may take before it is a request: slow ones, silent ones, many of them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from select import select
from typing import Any

import httpx
import pytest
import trustme

from tests.support.answers import exchange
from tests.support.servers import BOUND_S, ServerProcess, open_stream, streaming, wait_for

SOON_S = 1.0


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that waits for one second."""
    with ServerProcess(
        tmp_path_factory.mktemp("strict"), head_timeout_s=SOON_S, subscriber_stall_s=SOON_S, head_bytes_max=2_000
    ) as server:
        yield server


@contextmanager
def connection(server: ServerProcess, sent: bytes = b"") -> Iterator[socket.socket]:
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=BOUND_S)) as sock:
        sock.sendall(sent)
        yield sock


def all_of(sock: socket.socket) -> bytes:
    """What comes until the server closes."""
    received = b""
    while part := sock.recv(65_536):
        received += part
    return received


def problem(received: bytes) -> tuple[int, str]:
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    return int(head.split()[1]), json.loads(body)["detail"]


def test_a_connection_that_says_nothing_is_closed_without_a_word(strict: ServerProcess) -> None:
    with connection(strict) as sock:
        assert all_of(sock) == b""


@pytest.mark.parametrize("sent", [b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: b\r\n"])
def test_a_head_that_does_not_end_is_refused(strict: ServerProcess, sent: bytes) -> None:
    with connection(strict, sent) as sock:
        assert problem(all_of(sock))[0] == 408


@pytest.mark.parametrize("between", [b"", b"\r\n"])
def test_a_second_head_that_does_not_end_is_refused(strict: ServerProcess, between: bytes) -> None:
    with connection(strict, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") as sock:
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200")
        sock.sendall(between + b"GET /he")
        assert problem(all_of(sock))[0] == 408


def test_line_breaks_between_requests_do_not_keep_a_connection_open(strict: ServerProcess) -> None:
    with connection(strict, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") as sock:
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200")
        sock.sendall(b"\r\n")
        all_of(sock)  # ends


def test_a_byte_a_second_does_not_keep_a_head_alive(strict: ServerProcess) -> None:
    with connection(strict, b"GET /healthz HTTP/1.1\r\nX: ") as sock:
        sock.settimeout(0.2)
        deadline = time.monotonic() + BOUND_S
        while time.monotonic() < deadline:
            try:
                sock.sendall(b"x")
                if (received := sock.recv(65_536)) != b"":
                    break
            except TimeoutError:
                continue
        assert problem(received)[0] == 408


def test_a_body_that_comes_too_slowly_is_given_up(strict: ServerProcess) -> None:
    head = b"POST /users HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    with connection(strict, head) as sock:
        status, detail = problem(all_of(sock))
        assert (status, "body_rate_min" in detail) == (408, True)


def test_a_large_body_that_keeps_coming_is_taken(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, head_timeout_s=SOON_S, body_rate_min=2_000) as server:
        body = json.dumps({"username": "ada", "password": "correct horse", "info": "x" * 20_000}).encode()
        head = (
            b"POST /users HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        with connection(server, head % len(body)) as sock:
            started = time.monotonic()
            for start in range(0, len(body), 2_000):
                sock.sendall(body[start : start + 2_000])
                time.sleep(0.3)  # the pace of the client, not a wait
            assert time.monotonic() - started > 2 * SOON_S
            assert sock.recv(65_536).startswith(b"HTTP/1.1 201")


def test_bodies_that_are_coming_are_bounded_together(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, body_bytes_max=100_000, bodies_bytes_max=150_000) as server, ExitStack() as stack:
        head = (
            b"POST /users HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 90000\r\n\r\n"
        )
        first, second = (stack.enter_context(connection(server, head + b"[" * 80_000)) for _ in range(2))
        ready = select([first, second], [], [], BOUND_S)[0]
        assert len(ready) == 1
        assert problem(ready[0].recv(65_536))[0] == 503
        (other,) = {first, second} - set(ready)
        with server.client("ada") as client:
            assert client.post("/insert", json={"event": "e", "data": 1}).status_code == 201
        other.sendall(b"[" * 10_000)
        assert problem(other.recv(65_536))[0] == 400
        small = head.replace(b"90000", b"2000")
        with connection(server, small + b"[") as slow:  # never waits for the large ones, also in two parts
            time.sleep(0.1)
            slow.sendall(b"[" * 1_999)
            assert problem(slow.recv(65_536))[0] == 400
        again = stack.enter_context(connection(server, head + b"[" * 90_000))
        assert problem(again.recv(65_536))[0] == 400  # there is room again


def test_a_tls_handshake_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    pair: dict[str, Any] = {"tls_certificate": tmp_path / "certificate.pem", "tls_key": tmp_path / "key.pem"}
    with ServerProcess(tmp_path, scheme="https", head_timeout_s=SOON_S, **pair) as server, connection(server) as sock:
        assert all_of(sock) == b""


def test_trailers_without_end_are_refused(strict: ServerProcess) -> None:
    head = (
        b"POST /users HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    trailer = b"X-Trailer: " + b"x" * 10_000 + b"\r\n"
    with connection(strict, head + b"1\r\n{\r\n0\r\n") as sock, pytest.raises(ConnectionError):
        sock.sendall(trailer * 10_000)


def test_a_heap_of_requests_without_reading_is_refused(strict: ServerProcess) -> None:
    with connection(strict) as sock:
        with suppress(OSError):
            sock.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5_000)
        received = b""
        with suppress(OSError):
            received = all_of(sock)
        assert received.count(b"200 OK") < 100


def test_a_body_does_not_live_on_what_came_early(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, head_timeout_s=SOON_S) as server:
        head = (
            b"POST /users HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 900000\r\n\r\n"
        )
        with connection(server, head + b"[" * 800_000) as sock:  # by the rate on the whole, it might take 800 s
            assert problem(all_of(sock))[0] == 408


def test_connections_without_a_handshake_count(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    pair: dict[str, Any] = {"tls_certificate": tmp_path / "certificate.pem", "tls_key": tmp_path / "key.pem"}
    with ServerProcess(tmp_path, scheme="https", connections_max=10, **pair) as server, ExitStack() as stack:
        silent = [stack.enter_context(connection(server)) for _ in range(10)]
        with connection(server) as beyond:
            assert all_of(beyond) == b""
        for sock in silent:
            sock.close()
        with server.client() as client:
            wait_for(lambda: _answers(client))


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_head_that_is_too_large_is_refused_at_once(strict: ServerProcess) -> None:
    with connection(strict, b"GET /healthz HTTP/1.1\r\n" + b"X: %b\r\n" % (b"x" * 100) * 30) as sock:
        status, detail = problem(all_of(sock))
        assert (status, "head_bytes_max" in detail) == (431, True)


def test_an_answer_that_nobody_reads_is_cut_off(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, subscriber_stall_s=SOON_S) as server, server.client("ada") as client:
        for _ in range(12):
            assert client.post("/insert", json={"event": "big", "data": "x" * 900_000}).status_code == 201
        token = client.headers["Authorization"].encode()

        def files() -> int:
            """How many sockets and files the server has."""
            return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))

        before = files()
        with closing(socket.socket()) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            sock.connect(("127.0.0.1", server.port))
            sock.sendall(b"GET /collections/big HTTP/1.1\r\nHost: localhost\r\nAuthorization: %b\r\n\r\n" % token)
            sock.settimeout(BOUND_S)
            # The client reads nothing. For some time, its kernel accepts a few bytes more now and then.
            wait_for(lambda: files() == before + 1, what="the connection")
            wait_for(lambda: files() == before, what="its end")
            with suppress(ConnectionError):
                assert not all_of(sock).endswith(b"0\r\n\r\n"), "all of the answer came"


def test_a_client_that_reads_slowly_gets_all_of_an_answer(tmp_path: Path) -> None:
    """The kernel's buffer takes more only when a good part of it is free: what it has sent counts as progress, too."""
    with ServerProcess(tmp_path, subscriber_stall_s=SOON_S) as server, server.client("ada") as client:
        for _ in range(12):
            assert client.post("/insert", json={"event": "big", "data": "x" * 900_000}).status_code == 201
        token = client.headers["Authorization"].encode()
        with closing(socket.socket()) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            sock.connect(("127.0.0.1", server.port))
            sock.sendall(
                b"GET /collections/big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: %b\r\n\r\n"
                % token
            )
            sock.settimeout(BOUND_S)
            begun = time.monotonic()
            while time.monotonic() - begun < 5 * SOON_S:  # at some 200 KB a second
                assert sock.recv(20_000)
                time.sleep(0.1)
            assert all_of(sock).endswith(b"]\n\r\n0\r\n\r\n")


def test_a_stream_is_not_touched_by_these_limits(strict: ServerProcess) -> None:
    with streaming(strict) as reader, strict.client("ada") as client:
        reader.wait("$ready")
        time.sleep(3 * SOON_S)
        client.post("/insert", json={"event": "e", "data": 1})
        reader.wait("e")
        assert not reader.ended


def test_beyond_the_most_connections_others_are_closed_at_once_and_come_in_later(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, connections_max=5) as server:
        streams = [open_stream(server) for _ in range(5)]
        for each in streams:
            each.wait("$ready")
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError, httpx.ConnectError)):
            httpx.get(f"{server.url}/healthz")
        streams.pop().close()
        wait_for(lambda: _healthy(server))
        for each in streams:
            each.close()


def _healthy(server: ServerProcess) -> bool:
    try:
        return httpx.get(f"{server.url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("offer", ["", "Connection: Upgrade\r\nUpgrade: h2c\r\n"], ids=["", "with an offer to upgrade"])
@pytest.mark.parametrize("path", ["/healthz", "/healthz?" + "x" * 40_000])
def test_a_large_head_is_refused_in_one_segment_too(server: ServerProcess, offer: str, path: str) -> None:
    large = "" if "?" in path else f"X: {'y' * 40_000}\r\n"
    head, body = exchange(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{offer}{large}\r\n".encode())
    assert head.startswith("HTTP/1.1 431 ")
    assert "head_bytes_max" in body


def test_a_request_to_a_proxy_is_told_that_this_is_none(server: ServerProcess) -> None:
    head, body = exchange(server, b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n")
    assert head.startswith("HTTP/1.1 400 ")
    assert "CONNECT is for proxies" in body


def test_each_address_has_its_share_of_connections(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, "--open", connections_per_address_max=3, trusted_proxies="") as server:
        with connection(server), connection(server), connection(server):
            wait_for(lambda: not _healthy(server))
            # Another address of the loopback interface.
            with closing(socket.create_connection(("127.0.0.1", server.port), source_address=("127.0.0.2", 0))) as sock:
                sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert sock.recv(65_536).startswith(b"HTTP/1.1 200")
        wait_for(lambda: _healthy(server))


def test_each_address_has_its_share_of_streams_and_a_refusal_is_not_final(tmp_path: Path) -> None:
    behind_proxy = "X-Forwarded-For: 203.0.113.7\r\n"

    def comes_in() -> bool:
        with streaming(server, headers=behind_proxy) as again:
            wait_for(lambda: again.frames or again.ended)
            return bool(again.frames)

    with ServerProcess(tmp_path, "--open", subscribers_per_address_max=2) as server:
        with streaming(server, headers=behind_proxy) as first, streaming(server, headers=behind_proxy) as second:
            first.wait("$ready")
            second.wait("$ready")
            assert not comes_in()
            with streaming(server) as other:  # the proxy itself has no limit
                other.wait("$ready")
        wait_for(comes_in)


def test_a_forwarded_address_of_a_stranger_is_not_believed(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "--open", subscribers_per_address_max=1, trusted_proxies="10.0.0.1")
    with server, streaming(server) as first:
        first.wait("$ready")
        with streaming(server, headers="X-Forwarded-For: 203.0.113.7\r\n") as refused:
            wait_for(lambda: refused.ended)
            assert refused.frames == []
            assert 1000 <= int(refused.retry) <= 3000  # retry_ms, and at random up to half of it more or less
