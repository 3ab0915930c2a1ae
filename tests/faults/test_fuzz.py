"""Bytes that nobody meant: the HTTP edge takes any, and the stream's encoding survives any data."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import msgspec
import pytest
from httpx_sse import EventSource
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker import raw_json, sse
from broker.names import check_name
from tests.support.postgres import options_of
from tests.support.servers import ServerProcess

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(), each, max_size=4),
    max_leaves=20,
)
RAW = msgspec.json.Decoder(msgspec.Raw)
NAMES = st.text(min_size=1, max_size=40).filter(lambda name: _is_name(name))


def _is_name(text: str) -> bool:
    with suppress(Exception):
        return check_name(text) == text
    return False


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(NAMES, JSON, st.sampled_from([None, 1]), st.booleans()), min_size=1, max_size=5))
def test_what_is_encoded_is_what_an_independent_parser_reads(
    records: list[tuple[str, object, int | None, bool]],
) -> None:
    stream, expected = b"", []
    for position, (event, value, indent, ascii_only) in enumerate(records, 1):
        sent = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode(errors="surrogatepass")
        with suppress(UnicodeDecodeError):
            sent.decode()
            raw, compact = raw_json.decode(RAW, sent)
            data = compact(bytes(raw))
            stream += sse.HEARTBEAT + sse.frame(b"abcd0123-%d" % position, event, data) + sse.retry(position)
            expected.append((f"abcd0123-{position}", event, value))
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=stream)
    # It hands out an event at each empty line: there is none but those of the records.
    read = [(each.id, each.event, json.loads(each.data)) for each in EventSource(response).iter_sse()]
    assert read == expected


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data, options = tmp_path_factory.mktemp("fuzz"), options_of(request.param, request)
    with ServerProcess(data, *options, head_timeout_s=1.0) as server:
        yield server
        assert server.process.poll() is None
        assert not [line for line in server.log if "Traceback" in line or "ERROR" in line or "CRITICAL" in line]


PIECES = st.sampled_from(
    [
        b"GET ", b"POST ", b"HEAD ", b"OPTIONS ", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"/", b"/events", b"/insert",
        b"/login", b"/users", b"/collections/a", b"/cancel/0", b"/%00", b"/%ff", b"//", b"?", b"?event=*&event=a",
        b"?last_event_id=x", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/9.9", b"\r\n", b"\n", b"\r", b"\r\n\r\n",
        b"Host: localhost\r\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999\r\n",
        b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: x\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n",
        b"fffffffff\r\n", b"Content-Type: application/json\r\n", b"Content-Type: application/x-ndjson\r\n",
        b"Authorization: Bearer x\r\n",
        b"Last-Event-ID: \xff\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", b"CONNECT x:1 HTTP/1.1",
        b"Expect: 100-continue\r\n", b"Origin: null\r\n", b"X: " + b"y" * 9_000 + b"\r\n", b"{}", b"[" * 300, b'{"a":',
        b"\x16\x03\x01\x02\x00", b"\x00", b"\xff\xfe", b": ", b"A" * 70_000,
    ]
)  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES | st.binary(max_size=20), min_size=1, max_size=14), st.booleans())
def test_any_bytes_get_an_answer_or_an_end_and_others_are_served(
    server: ServerProcess, pieces: list[bytes], whole: bool
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.3) as sock, suppress(OSError):
        for part in [b"".join(pieces)] if whole else pieces:
            sock.sendall(part)
        sock.shutdown(socket.SHUT_WR)
        answer = sock.recv(65_536)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 ", b"retry: "))
        assert not answer.startswith(b"HTTP/1.1 5"), answer
    assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_a_cancelled_request_leaves_nothing_open(server: ServerProcess, tmp_path: Path) -> None:
    """After all of that no descriptor is left but the server's own."""
    open_files = Path(f"/proc/{server.process.pid}/fd")
    if open_files.exists():
        assert len(list(open_files.iterdir())) < 60
